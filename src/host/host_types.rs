//! What the host can quantize to its own types. It says so only while it loads, and not which field is at fault.

use colm_checkpoint::{ChainCount, ColmConfig, TensorId};
use mistralrs_core::IsqType;

use super::dtype::Quantization;
use crate::error::Error;

/// Numbers that share a scale in the types hqq and afq.
const GROUP: usize = 64;

/// Numbers that share a scale in mxfp4.
const MXFP4_BLOCK: usize = 32;

/// Fails if the host cannot quantize the linear layers of the first `k` chains to this type.
pub(super) fn check(
    config: &ColmConfig,
    k: ChainCount,
    quantization: Quantization,
) -> Result<(), Error> {
    let refused = |problem: String| {
        Err(Error::InvalidOption {
            option: "quantization",
            value: quantization.to_string(),
            problem: format!("{problem}, expected another type such as q8_0 or q4k"),
        })
    };
    let isq = quantization.isq();
    let is_tied = config.file.tie_word_embeddings;
    for tensor in config.tensors(k) {
        match tensor.id {
            TensorId::Bias { .. } if isq == IsqType::MXFP4 => {
                let name = tensor.name();
                return refused(format!(
                    "the host (mistral.rs) adds no biases to it, and {name} is one"
                ));
            }
            TensorId::Weight { .. } => (),
            // A tied head stays as it is.
            TensorId::Head if !is_tied => (),
            _ => continue,
        }
        let shape = tensor.shape();
        let (numbers, unit, what) = match isq {
            IsqType::HQQ4 | IsqType::HQQ8 => (shape[0] * shape[1], GROUP, "numbers"),
            IsqType::AFQ2 | IsqType::AFQ3 | IsqType::AFQ4 | IsqType::AFQ6 | IsqType::AFQ8 => {
                (shape[1], GROUP, "inputs")
            }
            IsqType::MXFP4 => (shape[1], MXFP4_BLOCK, "inputs"),
            _ => return Ok(()),
        };
        if !numbers.is_multiple_of(unit) {
            let name = tensor.name();
            return refused(format!(
                "{name} has {numbers} {what}, which is not a multiple of {unit}"
            ));
        }
    }
    Ok(())
}
