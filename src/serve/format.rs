//! The fields that constrain the form of an answer.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::{Grammar, LlguidanceGrammar};

/// OpenAI's `response_format`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseFormat {
    /// Any text.
    Text {},
    /// Any JSON object.
    JsonObject {},
    /// JSON that matches a schema.
    JsonSchema { json_schema: JsonSchema },
}

/// A named JSON schema.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonSchema {
    #[allow(dead_code, reason = "sent by OpenAI's clients, has no effect")]
    name: Option<String>,
    #[allow(dead_code, reason = "sent by OpenAI's clients, has no effect")]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// Has no effect: answers always match the schema.
    #[allow(dead_code, reason = "every schema is strict")]
    strict: Option<bool>,
}

/// A grammar that the answer must match.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", content = "value", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrammarField {
    /// A regular expression.
    Regex(String),
    /// A JSON schema.
    #[schema(value_type = Object)]
    JsonSchema(Value),
    /// A grammar in llguidance's variant of Lark.
    Lark(String),
    /// A grammar of llguidance in its JSON form.
    #[schema(value_type = Object)]
    Llguidance(Box<LlguidanceGrammar>),
}

/// A grammar, and the field that it comes from.
pub type GrammarOfField = (&'static str, Grammar);

/// The grammar of the answer, from either field. Fails if both are given.
pub fn grammar(
    format: Option<ResponseFormat>,
    grammar: Option<GrammarField>,
) -> Result<Option<GrammarOfField>, ApiError> {
    let from_format = match format {
        None | Some(ResponseFormat::Text {}) => None,
        Some(ResponseFormat::JsonObject {}) => Some(Grammar::JsonObject),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            Some(json_schema.schema.map_or(Grammar::JsonObject, Grammar::JsonSchema))
        }
    };
    let from_grammar = grammar.map(|grammar| match grammar {
        GrammarField::Regex(regex) => Grammar::Regex(regex),
        GrammarField::JsonSchema(schema) => Grammar::JsonSchema(schema),
        GrammarField::Lark(lark) => Grammar::Lark(lark),
        GrammarField::Llguidance(grammar) => Grammar::Llguidance(grammar),
    });
    if from_format.is_some() && from_grammar.is_some() {
        let message = "grammar and response_format are mutually exclusive: expected one of them";
        return Err(ApiError::invalid_value("grammar", message));
    }
    let from_format = from_format.map(|grammar| ("response_format", grammar));
    Ok(from_format.or(from_grammar.map(|grammar| ("grammar", grammar))))
}
