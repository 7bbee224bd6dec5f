//! generation_config.json: where answers end, and how tokens are chosen where a request does not say it.

use std::path::Path;

use colm_checkpoint::json_file;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::FolderError;

/// The file's name.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// How tokens are chosen where a request does not say it. What is None is as the engine has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// 0: always the likeliest token.
    pub temperature: Option<f64>,
    /// Of the likeliest tokens, those that together have this probability.
    pub top_p: Option<f64>,
    /// So many of the likeliest tokens; 0: all.
    pub top_k: Option<u32>,
    /// Tokens with at least this share of the likeliest one's probability.
    pub min_p: Option<f64>,
    /// Logits of tokens that have come are divided by this.
    pub repetition_penalty: Option<f32>,
}

/// The fields of `folder`'s file; none if there is no file.
pub fn read(folder: &Path) -> Result<Map<String, Value>, FolderError> {
    let path = folder.join(GENERATION_CONFIG);
    match path.exists() {
        true => Ok(json_file::read(&path)?),
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
                "a number above 0",
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
