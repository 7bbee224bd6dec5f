//! How exactly the activations of linear layers are multiplied on the CPU.

use std::str::FromStr;
use std::{error, fmt};

/// The precision of activations in the products of linear layers on the CPU. Products are added in f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatmulPrecision {
    /// All 24 bits of an f32.
    #[default]
    F32,
    /// Activations are rounded to the nearest bf16 number, ties to even, which leaves 8 significant bits. Faster on
    /// processors with AMX, with bf16 weights and quantized ones other than Q6K: an activation is then one bf16 number
    /// instead of three. With the same weights, AMD's processors with AVX512-BF16 (Zen 4 and later) add two products per
    /// instruction and number, which has not been measured. Not faster otherwise.
    Bf16,
}

impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// A text that is not the name of a [`MatmulPrecision`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsePrecisionError;

impl fmt::Display for ParsePrecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected f32 or bf16")
    }
}

impl error::Error for ParsePrecisionError {}

impl FromStr for MatmulPrecision {
    type Err = ParsePrecisionError;

    fn from_str(text: &str) -> Result<Self, ParsePrecisionError> {
        match text.to_lowercase().as_str() {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(ParsePrecisionError),
        }
    }
}
