//! The types that weights are held in.

use std::fmt;
use std::str::FromStr;

use mistralrs_core::{parse_isq_value, IsqType};
use thiserror::Error;

/// The dtype of weights and KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floats on the CPU. On a GPU, bf16 if it has it, else f16.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16.
    BF16,
    /// 16-bit floats.
    F16,
}

/// A text that is not the name of a [`Dtype`] or a [`Quantization`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseTypeError(String);

impl FromStr for Dtype {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        match text.to_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::BF16),
            "f16" => Ok(Self::F16),
            _ => Err(ParseTypeError("expected f32, bf16, f16 or auto".into())),
        }
    }
}

/// A type that the engine quantizes the linear layers to while it loads them, such as `q8_0` or `q4k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization(IsqType);

impl Quantization {
    pub(super) fn isq(self) -> IsqType {
        self.0
    }
}

impl FromStr for Quantization {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        parse_isq_value(text, None).map(Self).map_err(ParseTypeError)
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
