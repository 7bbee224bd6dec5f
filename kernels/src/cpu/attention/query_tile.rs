//! Tiles of query vectors: how the attention of a step is divided into tasks.

use std::ops::Range;

use super::key_tile::LayerCache;
use super::online_softmax::{AttendSplit, OnlineSoftmax, QueryPanel};
use super::SPLIT_KEYS;
use crate::cpu::gemm::output::OutputMatrix;
use crate::cpu::gemm::{NrVector, MR, NR};
use crate::cpu::{arch, Element, TensorRows};
use crate::{BlockTables, ChainQueries};

/// Query vectors per tile: enough to amortize the load of the keys.
const TILE_QUERIES: usize = 16 * MR;

/// The queries of one chain, and the output of its heads.
pub(super) struct AttentionChain<'a> {
    /// `[rows, heads, head_dim]`
    q: &'a TensorRows<'a, f32>,
    pub(super) out: OutputMatrix,
    heads: usize,
    /// How many key/value heads they read.
    kv_heads: usize,
}

impl<'a> AttentionChain<'a> {
    pub(super) fn new(chain: &ChainQueries, q: &'a TensorRows<'a, f32>, head_dim: usize) -> Self {
        Self {
            q,
            out: OutputMatrix::new(chain.q.dims()[0], q.width()),
            heads: q.width() / head_dim,
            kv_heads: chain.kv_heads.len(),
        }
    }

    /// The query heads that read key/value head `index` of those that the chain reads: the h with
    /// floor(h * kv_heads / heads) = `index`. There is none for some of them if there are fewer query heads.
    fn heads_reading(&self, index: usize) -> Range<usize> {
        let first = |index: usize| (index * self.heads).div_ceil(self.kv_heads);
        first(index)..first(index + 1)
    }

    /// The largest number of query heads that read the same key/value head.
    fn max_group(&self) -> usize {
        self.heads.div_ceil(self.kv_heads)
    }
}

/// Some consecutive rows of one sequence and one key/value head, with all query heads that read it, of all chains that
/// are active on exactly these rows. In CoLM-Air the chains that are active on the same rows thus load every key and
/// value once.
pub(super) struct QueryTile<'a> {
    chains: &'a [AttentionChain<'a>],
    /// The first row, as an index into the chains' tensors.
    first_row: usize,
    first_position: usize,
    positions: usize,
    kv_head: usize,
    /// The index of `kv_head` among the key/value heads that the chains read.
    kv_head_index: usize,
    table: &'a [u32],
}

/// Divides the queries into tiles. `chains` and `attention_chains` are of the same chains.
pub(super) fn query_tiles<'a>(
    chains: &[ChainQueries],
    mut attention_chains: &'a [AttentionChain<'a>],
    tables: &'a BlockTables,
) -> Vec<QueryTile<'a>> {
    let mut tiles = Vec::new();
    let same_rows = |one: &ChainQueries, next: &ChainQueries| {
        one.kv_heads == next.kv_heads && one.ranges == next.ranges
    };
    for run in chains.chunk_by(same_rows) {
        let (tile_chains, rest) = attention_chains.split_at(run.len());
        attention_chains = rest;
        let queries_per_row: usize = tile_chains.iter().map(AttentionChain::max_group).sum();
        let max_rows = (TILE_QUERIES / queries_per_row).max(1);
        let mut row = 0;
        // A run has at least one chain, and its chains have the same ranges and heads.
        let ChainQueries { ranges, kv_heads, .. } = &run[0];
        let is_read = |&(index, _): &(usize, usize)| {
            tile_chains.iter().any(|chain| !chain.heads_reading(index).is_empty())
        };
        let kv_heads: Vec<_> = kv_heads.clone().enumerate().filter(is_read).collect();
        for range in *ranges {
            for start in (0..range.rows).step_by(max_rows) {
                tiles.extend(kv_heads.iter().map(|&(kv_head_index, kv_head)| QueryTile {
                    chains: tile_chains,
                    first_row: row + start,
                    first_position: range.first_position + start,
                    positions: max_rows.min(range.rows - start),
                    kv_head,
                    kv_head_index,
                    table: tables.blocks(range.sequence).unwrap_or_default(),
                }));
            }
            row += range.rows;
        }
    }
    tiles
}

impl QueryTile<'_> {
    /// Computes the tile.
    pub(super) fn attend<T: Element>(&self, cache: &LayerCache<T>, scale: f32) {
        let head_dim = cache.layout.head_dim;
        let queries = self.pack_queries(head_dim, scale);
        let splits = (0..self.splits()).map(|split| self.attend_split(&queries, split, cache));
        self.finish(head_dim, splits);
    }

    /// The number of splits of its keys.
    pub(super) fn splits(&self) -> usize {
        self.end().div_ceil(SPLIT_KEYS)
    }

    /// The number of positions that its last row sees.
    fn end(&self) -> usize {
        self.first_position + self.positions
    }

    pub(super) fn pack_queries(&self, head_dim: usize, scale: f32) -> Vec<QueryPanel> {
        let queries: Vec<Query> = self.queries(head_dim).collect();
        let panels = queries.chunks(MR).map(|queries| {
            let vectors = queries.iter().map(|query| (self.vector(query, head_dim), query.visible));
            QueryPanel::pack(vectors, head_dim, scale)
        });
        panels.collect()
    }

    /// The unfinished softmax of every panel over the keys of one split.
    pub(super) fn attend_split<T: Element>(
        &self,
        queries: &[QueryPanel],
        split: usize,
        cache: &LayerCache<T>,
    ) -> Vec<OnlineSoftmax> {
        let positions = split * SPLIT_KEYS..self.end().min((split + 1) * SPLIT_KEYS);
        let (table, kv_head) = (self.table, self.kv_head);
        arch::run(AttendSplit { cache, table, kv_head, queries, positions })
    }

    /// Merges the splits, in order, and writes the results.
    pub(super) fn finish(&self, head_dim: usize, splits: impl Iterator<Item = Vec<OnlineSoftmax>>) {
        let merged = splits.reduce(|mut earlier, later| {
            earlier.iter_mut().zip(&later).for_each(|(earlier, later)| earlier.merge(later));
            earlier
        });
        let mut queries = self.queries(head_dim);
        for softmax in merged.iter().flatten() {
            for (row, query) in queries.by_ref().take(MR).enumerate() {
                self.write(&query, softmax.finish(row), head_dim);
            }
        }
    }

    fn write(&self, query: &Query, panels: impl Iterator<Item = NrVector>, head_dim: usize) {
        for (panel, values) in panels.enumerate() {
            let offset = panel * NR;
            let live = &values[..NR.min(head_dim - offset)];
            let out = &self.chains[query.chain].out;
            // SAFETY: two tiles that share a chain differ in their rows or in their key/value head, so they share no
            // query vector; and a tile has every query vector once.
            unsafe { out.write(query.row, query.column + offset, live) };
        }
    }

    /// The query vectors of the tile: position by position, chain by chain, head by head.
    fn queries(&self, head_dim: usize) -> impl Iterator<Item = Query> + '_ {
        (0..self.positions).flat_map(move |position| {
            self.chains.iter().enumerate().flat_map(move |(index, chain)| {
                chain.heads_reading(self.kv_head_index).map(move |head| Query {
                    chain: index,
                    row: self.first_row + position,
                    column: head * head_dim,
                    visible: self.first_position + position + 1,
                })
            })
        })
    }

    fn vector(&self, query: &Query, head_dim: usize) -> &[f32] {
        &self.chains[query.chain].q.row(query.row)[query.column..][..head_dim]
    }
}

/// One query vector: a head of a row.
struct Query {
    chain: usize,
    row: usize,
    /// The first column of the head.
    column: usize,
    /// How many positions it attends to.
    visible: usize,
}
