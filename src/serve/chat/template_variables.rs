//! The variables of the chat template that a request sets.

use serde_json::{Map, Value};

use crate::serve::error::ApiError;

/// Template variables that the server sets itself.
const RESERVED: [&str; 4] = ["messages", "tools", "add_generation_prompt", "strftime_now"];

/// The variables of the chat template other than messages and tools. They are defined only if the request sets them.
pub fn template_variables(
    enable_thinking: Option<bool>,
    effort: Option<String>,
    kwargs: Option<Map<String, Value>>,
) -> Result<Map<String, Value>, ApiError> {
    const KWARGS: &str = "chat_template_kwargs";
    let mut variables = kwargs.unwrap_or_default();
    if let Some(name) = RESERVED.into_iter().find(|name| variables.contains_key(*name)) {
        let message = format!("{name} is set by the server: expected other variables only");
        return Err(ApiError::invalid_value(format!("{KWARGS}.{name}"), message));
    }
    let fields = [
        ("enable_thinking", enable_thinking.map(Value::from)),
        ("reasoning_effort", effort.map(reasoning_effort).transpose()?.map(Value::from)),
    ];
    for (name, value) in fields {
        let Some(value) = value else { continue };
        if variables.insert(name.into(), value).is_some() {
            let message = format!("{name} is given twice: expected it once");
            return Err(ApiError::invalid_value(format!("{KWARGS}.{name}"), message));
        }
    }
    Ok(variables)
}

/// Validates `reasoning_effort`.
pub fn reasoning_effort(effort: String) -> Result<String, ApiError> {
    match effort.as_str() {
        "low" | "medium" | "high" => Ok(effort),
        _ => Err(ApiError::invalid_value(
            "reasoning_effort",
            "reasoning effort: expected low, medium or high",
        )),
    }
}
