//! Attention of all chains of a layer over the paged KV cache.

use std::ops::Range;

use candle_core::{bail, Result, Tensor};

use crate::cpu;
use crate::{BlockTables, KvBlocks};

/// Consecutive query rows of one sequence. Row j has the position `first_position + j` and attends to the positions
/// `0..=first_position + j`.
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
    /// The number of positions that the last row attends to: what the cache must hold.
    pub fn visible(&self) -> usize {
        self.first_position.saturating_add(self.rows)
    }
}

/// The queries of one chain, on the rows it is active on.
#[derive(Clone, Debug)]
pub struct ChainQueries<'a> {
    /// `[active rows, heads_i, head_dim]` of f32, bf16 or f16, rows in the order of `ranges`.
    pub q: &'a Tensor,
    /// The active rows, sequence by sequence.
    pub ranges: &'a [QueryRange],
    /// The key/value heads that this chain reads. Query head h reads
    /// `kv_heads.start + floor(h * kv_heads.len() / heads_i)`. On a GPU heads_i is a multiple of `kv_heads.len()`.
    pub kv_heads: Range<usize>,
}

/// Causal softmax attention of all chains of a layer over the KV cache (`docs/spec.md#layers`).
///
/// `scale` multiplies the products of queries and keys before the softmax; the model uses 1 / sqrt(head_dim). The keys
/// and values of all positions that the rows attend to must already be in `kv`. Returns per chain
/// `[active rows, heads_i, head_dim]` in the dtype of its queries.
///
/// # Errors
/// If a shape does not fit, if a range names a sequence without a block table, or if a table is too short for a
/// position or names a block that the cache does not have. The error names the chain, where the first of `chains` is
/// chain 1.
pub fn chain_attention(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    for (index, chain) in chains.iter().enumerate() {
        chain.check(kv, tables).map_err(|error| error.context(format!("chain {}", index + 1)))?;
    }
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    #[cfg(feature = "gpu")]
    if crate::cuda::accepts(kv.keys()) {
        return crate::cuda::attend(chains, kv, tables, scale);
    }
    cpu::attention::attend(chains, kv, tables, scale)
}

impl ChainQueries<'_> {
    fn check(&self, kv: &KvBlocks, tables: &BlockTables) -> Result<()> {
        kv.check_heads(&self.kv_heads)?;
        let (rows, heads, head_dim) = self.q.dims3()?;
        if head_dim != kv.head_dim() {
            bail!("queries have a head_dim of {head_dim}, the cache has {}", kv.head_dim());
        }
        if heads == 0 {
            bail!("queries have 0 heads; expected at least 1");
        }
        let range_rows: usize =
            self.ranges.iter().map(|range| range.rows).fold(0, usize::saturating_add);
        if range_rows != rows {
            bail!("the query ranges have {range_rows} rows in total, the queries {rows}");
        }
        self.ranges.iter().try_for_each(|range| check_table(range, kv, tables))
    }
}

fn check_table(range: &QueryRange, kv: &KvBlocks, tables: &BlockTables) -> Result<()> {
    let sequence = range.sequence;
    let Some(table) = tables.blocks(sequence) else {
        bail!(
            "no block table for sequence {sequence}: there are {} sequences",
            tables.sequence_count()
        );
    };
    let needed = range.visible().div_ceil(kv.block_size());
    let Some(table) = table.get(..needed) else {
        bail!(
            "sequence {sequence} has rows up to position {}, which needs {needed} blocks of {} \
             positions, but its block table has {}",
            range.visible() - 1,
            kv.block_size(),
            table.len()
        );
    };
    if let Some(block) = table.iter().find(|&&block| block as usize >= kv.block_count()) {
        bail!(
            "the block table of sequence {sequence} names block {block}, but the cache has {}",
            kv.block_count()
        );
    }
    Ok(())
}
