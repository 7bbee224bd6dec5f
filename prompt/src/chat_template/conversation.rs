//! Conversations.

use serde_json::{Map, Value};

/// The input of a chat template.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The messages, each with `role`, `content` and other fields that the template uses. As in
    /// transformers, fields that are null are ignored.
    pub messages: Vec<Map<String, Value>>,
    /// Functions that the model may call, in the format of the OpenAI API.
    pub tools: Option<Vec<Value>>,
    /// Additional variables, such as `enable_thinking`. They take precedence over the special tokens.
    pub variables: Map<String, Value>,
    /// Whether to append the header of the assistant's message.
    pub add_generation_prompt: bool,
}
