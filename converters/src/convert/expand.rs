//! Progressive scaling: a trained model becomes the first chains of a larger one.

use thiserror::Error;

use super::unchanged;
use crate::chains::Chains;
use crate::config::{Architecture, ColmConfig};
use crate::error::CheckpointError;
use crate::layout::Layout;
use crate::names::{ChainTensor, Part};
use crate::plan::{Content, DenseKv, Normal, Plan};
use crate::shortened::shortened;
use crate::source::Source;

/// The most parameters of a model: far above those of any.
const MAX_PARAMETERS: u128 = 100_000_000_000_000;

/// Why a model cannot be expanded as asked.
#[derive(Clone, Debug, Error, PartialEq)]
#[allow(missing_docs)]
pub enum ExpandError {
    #[error(
        "chains {asked:?} do not begin with the model's own: expected {count} entries in the \
         proportions of {base:?} first"
    )]
    OtherBase { asked: Vec<usize>, count: usize, base: Vec<usize> },
    #[error(
        "`{field}`: chains {asked:?} would give chain {chain} a size of {}, but it needs {needed}; \
         the nearest possible ratios are {nearest:?}",
        Quotient(*.share)
    )]
    Indivisible {
        field: &'static str,
        asked: Vec<usize>,
        chain: usize,
        /// Numerator and denominator of what the chain would get.
        share: (u128, u128),
        needed: String,
        nearest: Vec<usize>,
    },
    #[error(
        "a {} of {chains} chains cannot become a {}: its weights depend on which chains own keys and \
         values; only a model of one chain is both",
        .base.name(), .asked.name()
    )]
    OtherArchitecture { base: Architecture, asked: Architecture, chains: usize },
    #[error("`initializer_range` = {0}: expected a positive number")]
    InitializerRange(String),
    #[error(
        "chains {asked:?} would make a model of {parameters} parameters, {} bytes with 2 bytes for \
         each; expected at most {MAX_PARAMETERS} parameters",
        2 * parameters
    )]
    TooLarge { asked: Vec<usize>, parameters: u128 },
}

/// A fraction as people write it.
struct Quotient((u128, u128));

impl std::fmt::Display for Quotient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (numerator, denominator) = self.0;
        match numerator % denominator {
            0 => write!(f, "{}", numerator / denominator),
            _ => write!(f, "{numerator}/{denominator}"),
        }
    }
}

/// How the new chains begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// The larger model's logits equal the base's: the new chains' blocks of the head are zero
    /// (tied embeddings: their embeddings, which are the same weights), and everything else is
    /// as in [`Init::Normal`].
    ///
    /// The logits at k chains are the sum of U_i z_i over i <= k, and no chain of the base reads
    /// a new one, so zero U_i are enough. They are also the least: the gradient of U_i is that of
    /// the logits times z_i, which is not zero, since the other new weights are not. So the
    /// first step of training moves U_i, and through it the second reaches every other new weight.
    /// Tied, x_i begins as 0; what the chain reads of the chains before it makes z_i nonzero all
    /// the same.
    Zero,
    /// Every matrix is normal with standard deviation `initializer_range` (0.02 if config.json
    /// has none), norms are 1 and biases 0, as in Llama.
    Normal,
}

/// The model of `chains` whose first chains are `source`, bit for bit, in `layout`. The new ones
/// begin as `init` says; equal seeds give equal weights, in both layouts.
pub fn expand(
    source: &Source,
    chains: &Chains,
    architecture: Architecture,
    init: Init,
    seed: u64,
    layout: Layout,
) -> Result<Plan, CheckpointError> {
    let base = source.config();
    let config = expanded_config(base, chains, architecture)?;
    let std = initializer_range(base)?;
    let tied = base.file.tie_word_embeddings;
    let unchanged = unchanged(source);
    let normal =
        |tensor: &ChainTensor| Content::Normal(Normal { seed, stream: stream_of(tensor), std });
    Plan::new(&config, layout, &DenseKv::default(), |tensor| {
        if tensor.chain < base.chains.count() {
            return unchanged(tensor);
        }
        let content = match tensor.part {
            Part::InputNorm { .. } | Part::PostAttentionNorm { .. } | Part::FinalNorm => {
                Content::Ones
            }
            Part::Bias { .. } => Content::Zeros,
            Part::Head if init == Init::Zero => Content::Zeros,
            Part::Embedding if init == Init::Zero && tied => Content::Zeros,
            Part::Embedding | Part::Weight { .. } | Part::Head => normal(tensor),
        };
        // The dtype that the base's chains have there.
        let first = base.chain_tensor(tensor.part, 0).map(|first| source.dtype(&first));
        Ok((first.unwrap_or(crate::Dtype::F32), content))
    })
}

/// The config of the larger model. `chains` are the ratios of the whole of it, those of `base` first;
/// every width grows by the same ratios, but in Air the key/value heads stay as they are.
pub fn expanded_config(
    base: &ColmConfig,
    chains: &Chains,
    architecture: Architecture,
) -> Result<ColmConfig, CheckpointError> {
    let (ratios, count) = (chains.ratios(), base.chains.count());
    if count > 1 && architecture != base.architecture {
        let (base, asked) = (base.architecture, architecture);
        return Err(ExpandError::OtherArchitecture { base, asked, chains: count }.into());
    }
    if !begins_with(ratios, base.chains.ratios()) {
        let (asked, base) = (ratios.to_vec(), base.chains.ratios().to_vec());
        return Err(ExpandError::OtherBase { asked, count, base }.into());
    }
    divide(base, ratios, architecture)?;
    // Whole, for every chain's share is.
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
            Err(ExpandError::TooLarge { asked: ratios.to_vec(), parameters }.into())
        }
        _ => Ok(config),
    }
}

/// Whether the first of `ratios` are to each other as `base` are.
fn begins_with(ratios: &[usize], base: &[usize]) -> bool {
    let product = |a: usize, b: usize| a as u128 * b as u128;
    let same =
        |(&asked, &own): (&usize, &usize)| product(asked, base[0]) == product(own, ratios[0]);
    ratios.len() >= base.len() && ratios.iter().zip(base).all(same)
}

/// Refuses ratios by which a new chain would not get a whole share of every width, and says which
/// ratios are nearest to them.
fn divide(
    base: &ColmConfig,
    ratios: &[usize],
    architecture: Architecture,
) -> Result<(), Box<ExpandError>> {
    let count = base.chains.count();
    let old = ratios[..count].iter().sum::<usize>() as u128;
    // A chain of ratio c gets width * c / old, which must be a multiple of the unit.
    let (hidden, intermediate) = (base.hidden.total(), base.intermediate.total());
    let (heads, kv) = (base.heads.total(), base.kv_heads.total());
    let widths = match architecture {
        Architecture::Colm => vec![
            ("hidden_size", hidden, 1),
            ("intermediate_size", intermediate, 1),
            ("num_attention_heads", heads, 1),
            ("num_key_value_heads", kv, 1),
        ],
        Architecture::ColmAir => vec![
            ("hidden_size", hidden, 1),
            ("intermediate_size", intermediate, 1),
            ("num_attention_heads", heads, kv),
        ],
    };
    for (chain, &ratio) in ratios.iter().enumerate().skip(count) {
        for &(field, width, unit) in &widths {
            let (numerator, denominator) = reduced(width as u128 * ratio as u128, old);
            if denominator == 1 && numerator % unit as u128 == 0 {
                continue;
            }
            let needed = match unit {
                1 => "a whole number of at least 1".into(),
                _ => format!("a multiple of the {unit} key/value heads of chain 1"),
            };
            return Err(Box::new(ExpandError::Indivisible {
                field,
                asked: ratios.to_vec(),
                chain: chain + 1,
                share: (numerator, denominator),
                needed,
                nearest: nearest(ratios, count, widths.iter().map(|(_, w, unit)| w / unit)),
            }));
        }
    }
    Ok(())
}

/// The ratios nearest to `ratios` by which every chain past the first `count` gets a whole share of
/// each of `widths`.
fn nearest(ratios: &[usize], count: usize, widths: impl Iterator<Item = usize>) -> Vec<usize> {
    // So many equal steps there are in the base; a chain is some of them.
    let steps = widths.fold(0, |steps, width| gcd(steps, width as u128));
    let old = ratios[..count].iter().sum::<usize>() as u128;
    let rounded = |ratio: usize| ((2 * ratio as u128 * steps + old) / (2 * old)).max(1);
    let in_steps: Vec<u128> = ratios.iter().map(|&ratio| rounded(ratio)).collect();
    let common = in_steps.iter().fold(0, |common, &steps| gcd(common, steps));
    in_steps.iter().map(|&steps| (steps / common) as usize).collect()
}

fn reduced(numerator: u128, denominator: u128) -> (u128, u128) {
    let common = gcd(numerator, denominator);
    (numerator / common, denominator / common)
}

fn gcd(a: u128, b: u128) -> u128 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

fn initializer_range(base: &ColmConfig) -> Result<f32, Box<ExpandError>> {
    let written = base.file.other.get("initializer_range").filter(|value| !value.is_null());
    let Some(written) = written else {
        return Ok(0.02);
    };
    match written.as_f64().map(|std| std as f32) {
        Some(std) if std.is_finite() && std > 0. => Ok(std),
        _ => {
            let written = shortened(&written.to_string()).into_owned();
            Err(Box::new(ExpandError::InitializerRange(written)))
        }
    }
}

/// The 64-bit FNV-1a hash of the tensor's name in the chain layout.
fn stream_of(tensor: &ChainTensor) -> u64 {
    tensor.name().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
