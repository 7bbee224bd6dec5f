//! Attention of all chains of a layer over the paged cache.

use std::ops::Range;

use candle_core::{bail, Result, Tensor};

use crate::cpu;
use crate::{BlockTables, KvBlocks};

/// A run of consecutive query rows of one sequence: row j stands at position `first_position + j`
/// and attends to the positions `0..=first_position + j`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryRange {
    /// The sequence, as an index into the block tables.
    pub sequence: usize,
    /// The position of the first row, from 0.
    pub first_position: usize,
    /// The number of rows.
    pub rows: usize,
}

impl QueryRange {
    /// How many positions the last row sees, so how many the cache must hold.
    pub fn visible(&self) -> usize {
        self.first_position.saturating_add(self.rows)
    }
}

/// The queries of one chain at the rows it is active on.
#[derive(Clone, Debug)]
pub struct ChainQueries<'a> {
    /// `[active rows, heads_i, head_dim]`, rows in the order of `ranges`.
    pub q: &'a Tensor,
    /// The active rows, sequence by sequence.
    pub ranges: &'a [QueryRange],
    /// The key/value heads this chain reads. Query head h reads `kv_heads.start + h * kv_heads.len()
    /// / heads_i`, rounded down; heads_i is a multiple of `kv_heads.len()`.
    pub kv_heads: Range<usize>,
}

/// Causal softmax attention of every chain of a layer over the cache, in one call.
///
/// `scale` multiplies the products of queries and keys before the softmax (1 / sqrt(head_dim) in
/// SPEC 2). What the rows see must have been written to `kv` before. Returns per chain
/// `[active rows, heads_i, head_dim]` in the dtype of its queries.
///
/// Fails, naming the chain by its place in `chains` from 0, if a shape does not fit, if a range names
/// a sequence without a table, or if a table is too short for a position or names a block that the
/// cache does not have.
pub fn chain_attention(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    for (place, chain) in chains.iter().enumerate() {
        chain.check(kv, tables).map_err(|error| error.context(format!("chain {place}")))?;
    }
    #[cfg(feature = "gpu")]
    if crate::cuda::has(kv.keys()) {
        return crate::cuda::attend(chains, kv, tables, scale);
    }
    cpu::attention::attend(chains, kv, tables, scale)
}

impl ChainQueries<'_> {
    fn check(&self, kv: &KvBlocks, tables: &BlockTables) -> Result<()> {
        kv.check_heads(&self.kv_heads)?;
        let (rows, heads, head_dim) = self.q.dims3()?;
        if head_dim != kv.head_dim() {
            bail!("queries have heads of {head_dim}, the cache of {}", kv.head_dim());
        }
        if heads == 0 || heads % self.kv_heads.len() != 0 {
            bail!(
                "{heads} query heads cannot share {} key/value heads evenly",
                self.kv_heads.len()
            );
        }
        let ranged: usize =
            self.ranges.iter().map(|range| range.rows).fold(0, usize::saturating_add);
        if ranged != rows {
            bail!("the query ranges have {ranged} rows together, the queries {rows}");
        }
        self.ranges.iter().try_for_each(|range| check_table(range, kv, tables))
    }
}

fn check_table(range: &QueryRange, kv: &KvBlocks, tables: &BlockTables) -> Result<()> {
    let sequence = range.sequence;
    let Some(table) = tables.blocks(sequence) else {
        bail!("no block table for sequence {sequence}: there are {}", tables.sequences());
    };
    let needed = range.visible().div_ceil(kv.block_size());
    let Some(table) = table.get(..needed) else {
        bail!(
            "sequence {sequence} has rows up to position {}, which takes {needed} blocks of {} \
             positions, but its block table has {}",
            range.visible() - 1,
            kv.block_size(),
            table.len()
        );
    };
    if let Some(block) = table.iter().find(|&&block| block as usize >= kv.blocks()) {
        bail!("the table of sequence {sequence} names block {block} of {}", kv.blocks());
    }
    Ok(())
}
