//! RoPE of the queries and keys of all chains, and the write to the KV cache.

use std::ops::Range;

use candle_core::{Result, Tensor};

use crate::{KvBlocks, Rope, Slots};

/// The new keys and values of one chain.
#[derive(Clone, Debug)]
pub struct NewKeysValues<'a> {
    /// `[rows, heads.len(), head_dim]`
    pub keys: &'a Tensor,
    /// Of the same shape.
    pub values: &'a Tensor,
    /// The key/value heads of the cache that are written.
    pub heads: Range<usize>,
    /// The slot of each row.
    pub slots: &'a Slots,
}

/// The rows of one chain before attention.
#[derive(Clone, Debug)]
pub struct NewRows<'a> {
    /// `[rows, heads_i, head_dim]`
    pub q: &'a Tensor,
    /// The position of each row in its sequence.
    pub positions: &'a [usize],
    /// The keys and values of the same rows, if the chain has its own.
    pub keys_values: Option<NewKeysValues<'a>>,
}

/// Rotates the queries and keys of all chains ([`Rope::apply`]), and writes keys and values to the cache
/// ([`KvBlocks::write_with_rope`]). Returns the queries of each chain.
///
/// # Errors
/// As for [`Rope::apply`] and [`KvBlocks::write_with_rope`]. An error names the chain, where the first of `chains` is
/// chain 1.
pub fn rope_and_write(chains: &[NewRows], rope: &Rope, kv: &KvBlocks) -> Result<Vec<Tensor>> {
    #[cfg(feature = "gpu")]
    if crate::cuda::accepts(kv.keys()) {
        for (index, chain) in chains.iter().enumerate() {
            named(index, chain.check(rope, kv))?;
        }
        return crate::cuda::rope_and_write(chains, rope, kv);
    }
    for (index, chain) in chains.iter().enumerate() {
        named(index, chain.write(rope, kv))?;
    }
    let q = chains.iter().enumerate();
    q.map(|(index, chain)| named(index, rope.apply(chain.q, chain.positions))).collect()
}

/// Adds the chain to an error.
fn named<T>(index: usize, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.context(format!("chain {}", index + 1)))
}

impl NewRows<'_> {
    fn write(&self, rope: &Rope, kv: &KvBlocks) -> Result<()> {
        let Some(NewKeysValues { keys, values, heads, slots }) = &self.keys_values else {
            return Ok(());
        };
        kv.write_with_rope(heads.clone(), keys, values, slots, rope, self.positions)
    }

    #[cfg(feature = "gpu")]
    fn check(&self, rope: &Rope, kv: &KvBlocks) -> Result<()> {
        rope.check(self.q, self.positions)?;
        let Some(NewKeysValues { keys, values, heads, slots }) = &self.keys_values else {
            return Ok(());
        };
        rope.check(keys, self.positions)?;
        kv.check_write(heads, keys, values, slots)
    }
}
