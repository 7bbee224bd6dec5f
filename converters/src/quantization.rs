//! `quantization_config` in config.json: weights that are packed in a way of their own.

use serde_json::Value;

use crate::config_error::{refuse, ConfigError};
use crate::shortened::shortened;

/// Refuses a `quantization_config`, unless it is absent or null: transformers writes null for none. To be called where
/// weights are read as they are; `written` is the field's value, such as
/// `config.file.other.get("quantization_config")`. The error shows the value and names its `quant_method`.
pub fn check_not_quantized(written: Option<&Value>) -> Result<(), ConfigError> {
    let Some(value) = written.filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let expected = "expected weights that are not quantized, in F32, F16 or BF16";
    let expected = match value.get("quant_method") {
        Some(method) => {
            let method = method.to_string();
            format!("its `quant_method` is {}; {expected}", shortened(&method))
        }
        None => expected.into(),
    };
    Err(refuse("quantization_config", value, expected))
}
