//! `quantization_config` in config.json.

use serde_json::Value;

use super::error::{invalid, ConfigError};
use crate::text::abbreviate;

/// Checks that a config has no `quantization_config`, for code that reads weights as they are.
///
/// `written` is the value of the field, such as `config.file.other.get("quantization_config")`. null
/// counts as absent, because transformers writes it for models that are not quantized.
///
/// # Errors
/// If there is a value. The error shows it and names its `quant_method`.
pub fn check_not_quantized(written: Option<&Value>) -> Result<(), ConfigError> {
    let Some(value) = written.filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let expected = "expected weights that are not quantized, in F32, F16 or BF16";
    let expected = match value.get("quant_method") {
        Some(method) => {
            let method = method.to_string();
            format!("its `quant_method` is {}; {expected}", abbreviate(&method))
        }
        None => expected.into(),
    };
    Err(invalid("quantization_config", value, expected))
}
