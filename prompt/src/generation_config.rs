//! generation_config.json: default sampling parameters.

use std::path::Path;

use colm_checkpoint::json;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{is_there, FolderError};

/// The file's name.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Sampling parameters for what a request omits. None means the engine's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Nucleus sampling: the cumulative probability of the tokens to keep.
    pub top_p: Option<f64>,
    /// How many of the most likely tokens to keep; 0 keeps all.
    pub top_k: Option<u32>,
    /// The probability that a token needs to be kept, relative to the most likely one's.
    pub min_p: Option<f64>,
    /// Penalty on the logits of tokens that already occurred; 1 is none.
    pub repetition_penalty: Option<f32>,
}

/// The fields of `folder`'s file; none if there is no file.
pub fn read(folder: &Path) -> Result<Map<String, Value>, FolderError> {
    let path = folder.join(GENERATION_CONFIG);
    match is_there(&path) {
        true => Ok(json::read(&path)?),
        false => Ok(Map::new()),
    }
}

impl SamplingDefaults {
    /// Those in the fields of the file at `path`.
    pub fn of(fields: &Map<String, Value>, path: &Path) -> Result<Self, FolderError> {
        let at_least_0 = |value: f64| value.is_finite() && value >= 0.;
        let probability = |value: f64| (0. ..=1.).contains(&value);
        let factor = |value: f32| value.is_finite() && value > 0.;
        Ok(Self {
            temperature: number(fields, path, "temperature", "a number of at least 0", at_least_0)?,
            top_p: number(fields, path, "top_p", "a number from 0 to 1", probability)?,
            top_k: number(fields, path, "top_k", "a whole number of at least 0", |_: u32| true)?,
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

/// The number in `field`, if it is given and not null.
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
