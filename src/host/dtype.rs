//! The types that weights are held in.

use std::fmt;
use std::str::FromStr;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device};
use mistralrs_core::{parse_isq_value, IsqType, ModelDType};
use thiserror::Error;

/// The dtype of weights, or of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// On the CPU, weights have the dtype they are stored in, and the KV cache has 32-bit floats. On a GPU both have
    /// bf16, or f16 if it has no bf16.
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

impl Dtype {
    /// The dtype; None for [`Self::Auto`].
    pub(super) fn fixed(self) -> Option<DType> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(DType::F32),
            Self::BF16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
        }
    }

    /// As the host takes it; on the CPU, `Auto` is f32.
    pub(super) fn for_host(self, device: &Device) -> ModelDType {
        match (self, device) {
            (Self::F32, _) | (Self::Auto, Device::Cpu) => ModelDType::F32,
            (Self::BF16, _) => ModelDType::BF16,
            (Self::F16, _) => ModelDType::F16,
            (Self::Auto, _) => ModelDType::Auto,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

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

/// The names of [`Quantization`]s. docs/quantization.md compares them.
const EXPECTED: &str =
    "expected q4_0, q4_1, q5_0, q5_1, q8_0, q4k, q5k or q6k, or one of the slower types q2k, q3k, \
    q8_1, q8k, hqq4, hqq8, mxfp4, f8q8 and afq2 to afq8";

/// A type that the engine quantizes the linear layers to while it loads them, such as `q8_0` or `q4k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization(IsqType);

impl Quantization {
    pub(super) fn isq(self) -> IsqType {
        self.0
    }

    /// The type, if the kernels support it; if not, the host quantizes to it and multiplies with it.
    pub(super) fn ggml(self) -> Option<GgmlDType> {
        match self.0 {
            IsqType::Q4_0 => Some(GgmlDType::Q4_0),
            IsqType::Q4_1 => Some(GgmlDType::Q4_1),
            IsqType::Q5_0 => Some(GgmlDType::Q5_0),
            IsqType::Q5_1 => Some(GgmlDType::Q5_1),
            IsqType::Q8_0 => Some(GgmlDType::Q8_0),
            IsqType::Q4K => Some(GgmlDType::Q4K),
            IsqType::Q5K => Some(GgmlDType::Q5K),
            IsqType::Q6K => Some(GgmlDType::Q6K),
            _ => None,
        }
    }
}

impl FromStr for Quantization {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        match parse_isq_value(text, None) {
            // It loads on a CPU and cannot be multiplied there.
            Ok(IsqType::F8E4M3) if cfg!(not(feature = "cuda")) => {
                Err(ParseTypeError(format!("fp8 needs a GPU; {EXPECTED}")))
            }
            Ok(isq) => Ok(Self(isq)),
            Err(_) => Err(ParseTypeError(EXPECTED.into())),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
