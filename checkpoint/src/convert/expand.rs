//! Chain expansion: a trained model becomes the first chains of a larger one.

use std::hash::Hasher;

use fnv::FnvHasher;
use safetensors::Dtype;

use super::expand_error::ExpandError;
use super::gaussian::Gaussian;
use super::growth::expanded_config;
use super::new_chain::Growth;
use super::plan::{unchanged, ConversionPlan, Fill};
use crate::config::{Architecture, ColmConfig};
use crate::format::{ChainTensor, DenseKv, Layout, TensorId};
use crate::read::Source;
use crate::text::abbreviate;

/// How the new chains are initialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// The logits of the larger model equal those of the base at every k. The new chains' columns of
    /// the head are zero (with tied embeddings their columns of the embedding, which are the same
    /// weights). Everything else is as in [`Init::Normal`].
    ///
    /// The logits at k chains are the sum of `U_i z_i` over `i <= k`, and no chain of the base reads
    /// a new one, so it is enough that the new `U_i` are zero. Training still reaches every weight:
    /// the gradient of `U_i` is that of the logits times `z_i`, which is not zero because the other
    /// new weights are not. The first step changes `U_i`, and through it the second step changes
    /// the others. With tied embeddings `x_i` begins as 0, and `z_i` is nonzero because of what the
    /// chain reads from earlier chains.
    Zero,
    /// Matrices are normal with standard deviation `initializer_range` (0.02 if config.json has
    /// none), norms are 1 and biases 0, as in Llama.
    Normal,
}

/// A model that has the chains of `source`, bit for bit, followed by those of `growth`, in `layout`. The new chains are
/// initialized by `init`; equal seeds give equal weights, in both layouts.
///
/// # Errors
/// Those of [`expanded_config`], and an `initializer_range` that is not a positive number.
pub fn expand(
    source: &Source,
    growth: &Growth,
    architecture: Architecture,
    init: Init,
    seed: u64,
    layout: Layout,
) -> Result<ConversionPlan, ExpandError> {
    let base = source.config();
    let config = expanded_config(base, growth, architecture)?;
    let std = initializer_range(base)?;
    let tied = base.file.tie_word_embeddings;
    let unchanged = unchanged(source);
    let gaussian =
        |tensor: &ChainTensor| Fill::Gaussian(Gaussian { seed, stream: stream_of(tensor), std });
    Ok(ConversionPlan::new(&config, layout, &DenseKv::default(), |tensor| {
        if tensor.chain < base.chains.count() {
            return unchanged(tensor);
        }
        let fill = match tensor.id {
            norm if norm.is_norm() => Fill::Ones,
            TensorId::Bias { .. } => Fill::Zeros,
            TensorId::Head if init == Init::Zero => Fill::Zeros,
            TensorId::Embedding if init == Init::Zero && tied => Fill::Zeros,
            _ => gaussian(tensor),
        };
        // New chains have the dtype of the base's first chain.
        let first = base.chain_tensor(tensor.id, 0).map(|first| source.dtype(&first));
        Ok((first.unwrap_or(Dtype::F32), fill))
    })?)
}

fn initializer_range(base: &ColmConfig) -> Result<f32, ExpandError> {
    let written = base.file.other.get("initializer_range").filter(|value| !value.is_null());
    let Some(written) = written else {
        return Ok(0.02);
    };
    match written.as_f64().map(|std| std as f32) {
        Some(std) if std.is_finite() && std > 0. => Ok(std),
        _ => {
            let written = abbreviate(&written.to_string()).into_owned();
            Err(ExpandError::InitializerRange(written))
        }
    }
}

/// The 64-bit FNV-1a hash of the tensor's name in the chain layout.
fn stream_of(tensor: &ChainTensor) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(tensor.name().as_bytes());
    hasher.finish()
}
