//! Progressive scaling: a trained model becomes the first chains of a larger one.

use std::hash::Hasher;

use fnv::FnvHasher;
use safetensors::Dtype;
use thiserror::Error;

use super::gaussian::Gaussian;
use super::plan::{unchanged, ConversionPlan, Fill};
use super::ratios::{check_shares, starts_with, Indivisible};
use crate::config::{Architecture, Chains, ColmConfig, ConfigError};
use crate::format::{ChainTensor, CheckpointError, DenseKv, Layout, TensorId};
use crate::read::Source;
use crate::text::abbreviate;

/// The most parameters of a model: far above any.
const MAX_PARAMETERS: u128 = 100_000_000_000_000;

/// Why a model cannot be expanded as asked.
#[derive(Debug, Error)]
#[allow(missing_docs)] // the fields
#[non_exhaustive]
pub enum ExpandError {
    /// The new ratios do not begin with those of the base.
    #[error(
        "chains {asked:?} do not begin with the model's own: expected {count} entries in the \
         proportions of {base:?} first"
    )]
    OtherBase { asked: Vec<usize>, count: usize, base: Vec<usize> },
    /// A new chain would not get a whole share of a width.
    #[error(transparent)]
    Indivisible(#[from] Box<Indivisible>),
    /// The base has several chains and another architecture.
    #[error(
        "a {} of {chains} chains cannot become a {}: its weights depend on which chains own keys and \
         values; only a model of one chain is both",
        .base.name(), .asked.name()
    )]
    OtherArchitecture { base: Architecture, asked: Architecture, chains: usize },
    /// `initializer_range` of the base is not a positive number.
    #[error("`initializer_range` = {0}: expected a positive number")]
    InitializerRange(String),
    /// The new model is too large.
    #[error(
        "chains {asked:?} would make a model of {parameters} parameters, {} bytes with 2 bytes for \
         each; expected at most {MAX_PARAMETERS} parameters",
        2 * parameters
    )]
    TooLarge { asked: Vec<usize>, parameters: u128 },
    /// The config of the new model breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The plan cannot be made.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

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
    /// chain reads of earlier chains.
    Zero,
    /// Matrices are normal with standard deviation `initializer_range` (0.02 if config.json has
    /// none), norms are 1 and biases 0, as in Llama.
    Normal,
}

/// The model of `chains` whose first chains are `source`, bit for bit, in `layout`. The new chains are
/// initialized by `init`; equal seeds give equal weights, in both layouts.
///
/// # Errors
/// Those of [`expanded_config`], and an `initializer_range` that is not a positive number.
pub fn expand(
    source: &Source,
    chains: &Chains,
    architecture: Architecture,
    init: Init,
    seed: u64,
    layout: Layout,
) -> Result<ConversionPlan, ExpandError> {
    let base = source.config();
    let config = expanded_config(base, chains, architecture)?;
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
            TensorId::InputNorm { .. }
            | TensorId::PostAttentionNorm { .. }
            | TensorId::FinalNorm => Fill::Ones,
            TensorId::Bias { .. } => Fill::Zeros,
            TensorId::Head if init == Init::Zero => Fill::Zeros,
            TensorId::Embedding if init == Init::Zero && tied => Fill::Zeros,
            TensorId::Embedding | TensorId::Weight { .. } | TensorId::Head => gaussian(tensor),
        };
        // New chains have the dtype of the base's first chain.
        let first = base.chain_tensor(tensor.id, 0).map(|first| source.dtype(&first));
        Ok((first.unwrap_or(Dtype::F32), fill))
    })?)
}

/// The config of the larger model.
///
/// `chains` are the relative sizes of all its chains, beginning with those of `base`. Every width
/// grows in proportion; in Air the key/value heads stay as they are.
///
/// # Errors
/// If `chains` do not begin with the ratios of `base`, if a new chain would not get a whole share of
/// every width (the error suggests the nearest ratios), if a model of several chains would change
/// its architecture, or if the model exceeds 10^14 parameters.
pub fn expanded_config(
    base: &ColmConfig,
    chains: &Chains,
    architecture: Architecture,
) -> Result<ColmConfig, ExpandError> {
    let (ratios, count) = (chains.ratios(), base.chains.count());
    if count > 1 && architecture != base.architecture {
        let (base, asked) = (base.architecture, architecture);
        return Err(ExpandError::OtherArchitecture { base, asked, chains: count });
    }
    if !starts_with(ratios, base.chains.ratios()) {
        let (asked, base) = (ratios.to_vec(), base.chains.ratios().to_vec());
        return Err(ExpandError::OtherBase { asked, count, base });
    }
    check_shares(base, ratios, architecture)?;
    // The divisions below are exact, because every chain's share is whole.
    let old: usize = ratios[..count].iter().sum();
    let new: usize = ratios.iter().sum();
    let grown = |width: usize| (width as u128 * new as u128 / old as u128) as usize;
    let mut file = base.file.clone();
    file.architectures = vec![architecture.name().into()];
    file.model_type = architecture.model_type().into();
    file.chains = ratios.to_vec();
    file.hidden_size = grown(base.hidden.total());
    file.intermediate_size = grown(base.intermediate.total());
    file.num_attention_heads = grown(base.heads.total());
    file.num_key_value_heads = Some(match architecture {
        Architecture::Colm => grown(base.kv_heads.total()),
        Architecture::ColmAir => base.kv_heads.total(),
    });
    file.head_dim = Some(base.head_dim);
    let config = ColmConfig::new(file)?;
    match config.parameters(config.all_chains()) {
        parameters if parameters > MAX_PARAMETERS => {
            Err(ExpandError::TooLarge { asked: ratios.to_vec(), parameters })
        }
        _ => Ok(config),
    }
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
