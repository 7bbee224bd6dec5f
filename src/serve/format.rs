//! The fields that say what form an answer has.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::Refusal;
use crate::{Grammar, LlguidanceGrammar};

/// OpenAI's `response_format`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseFormat {
    /// Any text.
    Text {},
    /// Any JSON object.
    JsonObject {},
    /// JSON of this schema.
    JsonSchema { json_schema: JsonSchema },
}

/// A named JSON schema.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonSchema {
    #[allow(dead_code, reason = "OpenAI's clients send it; it changes nothing")]
    name: Option<String>,
    #[allow(dead_code, reason = "OpenAI's clients send it; it changes nothing")]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// Answers always match the schema.
    #[allow(dead_code, reason = "every schema is strict")]
    strict: Option<bool>,
}

/// What an answer must match, in a language of one's choice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", content = "value", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrammarField {
    Regex(String),
    #[schema(value_type = Object)]
    JsonSchema(Value),
    /// Lark, as llguidance reads it.
    Lark(String),
    /// A grammar of llguidance in its JSON form.
    #[schema(value_type = Object)]
    Llguidance(Box<LlguidanceGrammar>),
}

/// What an answer must match; the two fields exclude each other.
pub fn grammar(
    format: Option<ResponseFormat>,
    grammar: Option<GrammarField>,
) -> Result<Option<Grammar>, Refusal> {
    let of_format = match format {
        None | Some(ResponseFormat::Text {}) => None,
        Some(ResponseFormat::JsonObject {}) => Some(Grammar::JsonObject),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            Some(json_schema.schema.map_or(Grammar::JsonObject, Grammar::JsonSchema))
        }
    };
    let of_grammar = grammar.map(|grammar| match grammar {
        GrammarField::Regex(regex) => Grammar::Regex(regex),
        GrammarField::JsonSchema(schema) => Grammar::JsonSchema(schema),
        GrammarField::Lark(lark) => Grammar::Lark(lark),
        GrammarField::Llguidance(grammar) => Grammar::Llguidance(grammar),
    });
    if of_format.is_some() && of_grammar.is_some() {
        let message = "grammar and response_format exclude each other: give one of them";
        return Err(Refusal::value("grammar", message));
    }
    Ok(of_format.or(of_grammar))
}
