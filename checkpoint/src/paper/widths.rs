//! The widths of params.json, and whether they can be split over the chains.

use super::numbers::{required_size, size};
use crate::config::{
    invalid, Architecture, Chains, ConfigError, Fields, MAX_CHAINS, MAX_LAYERS, MAX_SIZE,
};
use crate::text::abbreviate_list;

/// The sizes of a model. Every width can be split over the chains.
pub(super) struct Widths {
    /// Query heads per chain.
    pub chains: Chains,
    pub dim: usize,
    pub hidden_dim: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
}

impl Widths {
    pub fn of(fields: &Fields, architecture: Architecture) -> Result<Self, ConfigError> {
        let required = |field, what| required_size(fields, field, MAX_SIZE, what);
        let n_heads = required("n_heads", "the number of query heads of all chains")?;
        let dim = required("dim", "the width of the hidden vector")?;
        let n_layers = required_size(fields, "n_layers", MAX_LAYERS, "the number of layers")?;
        let hidden_dim = required("hidden_dim", "the width of the MLP over all chains")?;
        let vocab_size = required("vocab_size", "the rows of tok_embeddings.weight")?;
        let chains = chains(fields, n_heads)?;
        let n_kv_heads = size(fields, "n_kv_heads", MAX_SIZE)?.unwrap_or(n_heads);
        check_kv_heads(&chains, architecture, n_heads, n_kv_heads)?;
        let head_dim = head_dim(fields, dim, n_heads)?;
        check_divisible(&chains, "dim", dim)?;
        check_divisible(&chains, "hidden_dim", hidden_dim)?;
        Ok(Self { chains, dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size })
    }
}

/// The heads of each chain, which sum to `n_heads`.
fn chains(fields: &Fields, n_heads: usize) -> Result<Chains, ConfigError> {
    let Some(value) = fields.get("chains") else {
        let expected = "expected the number of heads of each chain, such as [8, 8]; a Llama in Meta's own format has \
                        no such field, and is read in the Hugging Face format only";
        return Err(invalid("chains", "absent", expected));
    };
    let head_count = |entry: &serde_json::Value| {
        let heads = usize::try_from(entry.as_u64()?).ok()?;
        (1..=MAX_SIZE).contains(&heads).then_some(heads)
    };
    let heads: Option<Vec<usize>> =
        value.as_array().and_then(|list| list.iter().map(head_count).collect());
    let heads = heads.filter(|heads| (1..=MAX_CHAINS).contains(&heads.len())).ok_or_else(|| {
        let expected = format!(
            "expected the number of heads of each chain, such as [8, 8]: 1 to {MAX_CHAINS} whole numbers of at least 1"
        );
        invalid("chains", value, expected)
    })?;
    let sum: usize = heads.iter().sum();
    if sum != n_heads {
        let mut expected = format!(
            "the heads of its chains sum to {sum}; expected a sum of `n_heads` = {n_heads}"
        );
        if n_heads.is_multiple_of(sum) {
            let scaled: Vec<_> = heads.iter().map(|count| count * (n_heads / sum)).collect();
            expected += &format!(", such as {}", abbreviate_list(&scaled));
        }
        return Err(invalid("chains", value, expected));
    }
    Chains::new(heads)
}

fn head_dim(fields: &Fields, dim: usize, n_heads: usize) -> Result<usize, ConfigError> {
    let (field, value, head_dim) = match size(fields, "head_dim", MAX_SIZE)? {
        Some(head_dim) => ("head_dim", head_dim, head_dim),
        None if dim.is_multiple_of(n_heads) => ("dim", dim, dim / n_heads),
        None => {
            let expected = format!("expected a multiple of `n_heads` = {n_heads}");
            return Err(invalid("dim", &dim, expected));
        }
    };
    if !head_dim.is_multiple_of(2) {
        let expected = format!(
            "heads have {head_dim} elements, and RoPE rotates pairs: expected an even number per head"
        );
        return Err(invalid(field, &value, expected));
    }
    Ok(head_dim)
}

fn check_kv_heads(
    chains: &Chains,
    architecture: Architecture,
    n_heads: usize,
    n_kv_heads: usize,
) -> Result<(), ConfigError> {
    let field = "n_kv_heads";
    match architecture {
        Architecture::Colm if n_heads.is_multiple_of(n_kv_heads) => {
            check_divisible(chains, field, n_kv_heads)
        }
        Architecture::Colm => {
            let expected = format!("expected a divisor of `n_heads` = {n_heads}");
            Err(invalid(field, &n_kv_heads, expected))
        }
        Architecture::ColmAir => {
            let heads = chains.ratios();
            match heads.iter().position(|heads| !heads.is_multiple_of(n_kv_heads)) {
                None => Ok(()),
                Some(chain) => {
                    let expected = format!(
                        "with `kv_sharing` the heads of every chain read all key/value heads, and chain {} has {} \
                         heads: expected a divisor of that",
                        chain + 1,
                        heads[chain]
                    );
                    Err(invalid(field, &n_kv_heads, expected))
                }
            }
        }
    }
}

/// Fails unless every chain's share of `width` is a whole number. Then it is at least 1.
fn check_divisible(chains: &Chains, field: &'static str, width: usize) -> Result<(), ConfigError> {
    let heads = chains.ratios();
    let sum: usize = heads.iter().sum();
    let step = sum / heads.iter().fold(sum, |divisor, &heads| gcd(divisor, heads));
    if width.is_multiple_of(step) {
        return Ok(());
    }
    let expected = format!(
        "it cannot be split over the chains {}: expected a multiple of {step}",
        abbreviate_list(heads)
    );
    Err(invalid(field, &width, expected))
}

fn gcd(one: usize, other: usize) -> usize {
    match other {
        0 => one,
        _ => gcd(other, one % other),
    }
}
