//! generation_config.json: default sampling parameters.

use std::path::Path;

use colm_checkpoint::json;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{exists, FolderError};

/// The name of the file.
pub(super) const GENERATION_CONFIG: &str = "generation_config.json";

/// Defaults of generation_config.json for sampling parameters that a request omits. None means the
/// default of the engine. `"do_sample": false` is a temperature of 0, as in transformers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// The temperature, at least 0; 0 is greedy decoding.
    pub temperature: Option<f64>,
    /// Nucleus sampling: the cumulative probability of the tokens to keep, from 0 to 1.
    pub top_p: Option<f64>,
    /// How many of the most likely tokens to keep; 0 keeps all.
    pub top_k: Option<u32>,
    /// The lowest probability of the tokens to keep, relative to the most likely one, from 0 to 1.
    pub min_p: Option<f64>,
    /// The penalty on the logits of tokens that already occurred, above 0; 1 is no penalty.
    pub repetition_penalty: Option<f32>,
}

/// The fields of the file in `folder`; none if there is no file.
pub(super) fn read_generation_config(folder: &Path) -> Result<Map<String, Value>, FolderError> {
    let path = folder.join(GENERATION_CONFIG);
    if exists(&path) {
        Ok(json::read(&path)?)
    } else {
        Ok(Map::new())
    }
}

impl SamplingDefaults {
    /// The parameters in `fields`, the fields of the file at `path`.
    pub(super) fn parse(fields: &Map<String, Value>, path: &Path) -> Result<Self, FolderError> {
        let at_least_0 = |value: f64| value.is_finite() && value >= 0.;
        let probability = |value: f64| (0. ..=1.).contains(&value);
        let factor = |value: f32| value.is_finite() && value > 0.;
        let temperature =
            number(fields, path, "temperature", "a number of at least 0", at_least_0)?;
        let is_greedy = flag(fields, path, "do_sample")? == Some(false);
        Ok(Self {
            temperature: if is_greedy { Some(0.) } else { temperature },
            top_p: number(fields, path, "top_p", "a number from 0 to 1", probability)?,
            top_k: number(
                fields,
                path,
                "top_k",
                "a whole number from 0 to 4294967295",
                |_: u32| true,
            )?,
            min_p: number(fields, path, "min_p", "a number from 0 to 1", probability)?,
            repetition_penalty: number(
                fields,
                path,
                "repetition_penalty",
                "a number above 0 and below 3.4e38",
                factor,
            )?,
        })
    }
}

/// Whether `field` is true; None if it is absent or null.
fn flag(
    fields: &Map<String, Value>,
    path: &Path,
    field: &str,
) -> Result<Option<bool>, FolderError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) => {
            Err(FolderError::field(path, field, format!("{value}: expected true or false")))
        }
    }
}

/// The number in `field`; None if it is absent or null.
fn number<'a, T: Deserialize<'a> + Copy>(
    fields: &'a Map<String, Value>,
    path: &Path,
    field: &str,
    expected: &str,
    is_right: impl Fn(T) -> bool,
) -> Result<Option<T>, FolderError> {
    let Some(value) = fields.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
    match T::deserialize(value) {
        Ok(number) if is_right(number) => Ok(Some(number)),
        _ => Err(FolderError::field(path, field, format!("{value}: expected {expected}"))),
    }
}
