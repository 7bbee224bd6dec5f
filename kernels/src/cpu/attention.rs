//! Chain attention on the CPU: tiles of query rows, each sweeping the keys it sees.
//!
//! A row's result must not depend on its company. So keys are swept in tiles and segments counted
//! from position 0, never from a tile's own start; and a row goes through the same operations in the
//! same order wherever in a tile it stands. Where it takes part in more than it sees, because a
//! neighbour sees more, it multiplies by 1 and adds 0.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::instructions;
use super::key_tile::Cache;
use super::outer::ROWS;
use super::rows::cpu;
use super::sweep::{QueryRows, Softmax, Sweep};
use super::{for_dtype, Element};
use crate::{BlockTables, ChainQueries, KvBlocks};

/// Query rows per tile, a row being a position of one of the heads that share a key/value head:
/// enough to pay for fetching the keys.
const TILE_ROWS: usize = 16 * ROWS;

/// Key positions a task sweeps: the keys of a long context are divided even for a single row.
const SEGMENT: usize = 1024;

/// [`crate::chain_attention`], for arguments it has checked.
pub(crate) fn attend(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    for_dtype!(kv.keys().dtype(), T => attend_over::<T>(chains, kv, tables, scale))
}

fn attend_over<T: Element>(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    let (keys, keys_layout) = kv.keys().storage_and_layout();
    let (values, values_layout) = kv.values().storage_and_layout();
    let cache = Cache {
        keys: &cpu(&keys)?.as_slice::<T>()?[keys_layout.start_offset()..],
        values: &cpu(&values)?.as_slice::<T>()?[values_layout.start_offset()..],
        kv,
    };
    let groups = Group::of(chains)?;
    let mut outs: Vec<Vec<f32>> = groups.iter().map(|group| vec![0.0; group.q.len()]).collect();
    let mut tiles = Vec::new();
    for (group, out) in groups.iter().zip(&mut outs) {
        cut_into_tiles(group, out, tables, kv.head_dim(), &mut tiles);
    }
    tiles.into_par_iter().for_each(|tile| tile.attend(&cache, scale));
    let per_group = groups.iter().zip(outs).map(|(group, out)| group.split(out));
    per_group.collect::<Result<Vec<_>>>().map(|tensors| tensors.into_iter().flatten().collect())
}

/// Consecutive chains that ask the same key/value heads at the same rows: CoLM-Air's chains that are
/// active on the same rows. Together they fetch every key and value once.
struct Group<'a> {
    chains: &'a [ChainQueries<'a>],
    /// Query heads of all its chains.
    heads: usize,
    /// `[rows, key/value heads, query heads that share one, head_dim]`: chain by chain within a share.
    q: Vec<f32>,
}

impl<'a> Group<'a> {
    fn of(chains: &'a [ChainQueries<'a>]) -> Result<Vec<Self>> {
        let together = |one: &ChainQueries, next: &ChainQueries| {
            one.kv_heads == next.kv_heads && one.ranges == next.ranges
        };
        chains.chunk_by(together).map(Self::new).collect()
    }

    fn new(chains: &'a [ChainQueries<'a>]) -> Result<Self> {
        let q = chains.iter().map(|chain| in_f32(chain.q)).collect::<Result<Vec<_>>>()?;
        let mut heads = 0;
        for chain in chains {
            heads += chain.q.dim(1)?;
        }
        let mut group = Self { chains, heads, q: Vec::new() };
        group.q = match <[Vec<f32>; 1]>::try_from(q) {
            Ok([alone]) => alone,
            Err(q) => {
                let mut shares: Vec<_> =
                    q.iter().zip(chains).map(|(q, chain)| q.chunks(share(chain))).collect();
                let mut merged = Vec::with_capacity(q.iter().map(Vec::len).sum());
                while let Some(first) = shares[0].next() {
                    merged.extend_from_slice(first);
                    shares[1..].iter_mut().flat_map(Iterator::next).for_each(|share| {
                        merged.extend_from_slice(share);
                    });
                }
                merged
            }
        };
        Ok(group)
    }

    /// Per chain its part of `out`, which is laid out like `q`.
    fn split(&self, out: Vec<f32>) -> Result<Vec<Tensor>> {
        let parts = match self.chains {
            [_] => vec![out],
            _ => self.parts(&out),
        };
        let tensors = self.chains.iter().zip(parts).map(|(chain, part)| {
            Tensor::from_vec(part, chain.q.dims(), &Device::Cpu)?.to_dtype(chain.q.dtype())
        });
        tensors.collect()
    }

    fn parts(&self, mut out: &[f32]) -> Vec<Vec<f32>> {
        let mut parts: Vec<Vec<f32>> =
            self.chains.iter().map(|chain| Vec::with_capacity(chain.q.elem_count())).collect();
        while !out.is_empty() {
            for (chain, part) in self.chains.iter().zip(&mut parts) {
                let (own, others) = out.split_at(share(chain));
                part.extend_from_slice(own);
                out = others;
            }
        }
        parts
    }
}

/// How many numbers a row of a chain has for the query heads that share a key/value head.
fn share(chain: &ChainQueries) -> usize {
    chain.q.dims()[1..].iter().product::<usize>() / chain.kv_heads.len()
}

fn in_f32(q: &Tensor) -> Result<Vec<f32>> {
    cpu(&q.storage_and_layout().0)?;
    q.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Some consecutive rows of one sequence, in one group.
struct Tile<'a> {
    /// `[positions, heads, head_dim]`
    q: &'a [f32],
    /// `[positions, heads, head_dim]`
    out: &'a mut [f32],
    first_position: usize,
    positions: usize,
    kv_heads: Range<usize>,
    table: &'a [u32],
}

fn cut_into_tiles<'a>(
    group: &'a Group<'a>,
    mut out: &'a mut [f32],
    tables: &'a BlockTables,
    head_dim: usize,
    tiles: &mut Vec<Tile<'a>>,
) {
    // A group has at least one chain, and its chains agree.
    let ChainQueries { ranges, kv_heads, .. } = &group.chains[0];
    let (mut q, width) = (group.q.as_slice(), group.heads * head_dim);
    let positions_per_tile = (TILE_ROWS * kv_heads.len() / group.heads).max(1);
    for range in *ranges {
        for start in (0..range.rows).step_by(positions_per_tile) {
            let positions = positions_per_tile.min(range.rows - start);
            let (q_tile, q_rest) = q.split_at(positions * width);
            let (out_tile, out_rest) = out.split_at_mut(positions * width);
            tiles.push(Tile {
                q: q_tile,
                out: out_tile,
                first_position: range.first_position + start,
                positions,
                kv_heads: kv_heads.clone(),
                table: tables.blocks(range.sequence).unwrap_or_default(),
            });
            (q, out) = (q_rest, out_rest);
        }
    }
}

impl Tile<'_> {
    fn attend<T: Element>(self, cache: &Cache<T>, scale: f32) {
        let kv_heads = self.kv_heads.clone();
        // Per position, the query heads of one key/value head are neighbours: a share.
        let share = self.q.len() / (self.positions * kv_heads.len());
        let results: Vec<Vec<f32>> = kv_heads
            .clone()
            .into_par_iter()
            .map(|kv_head| {
                let skipped = kv_head - kv_heads.start;
                let shares = self.q.chunks_exact(share).skip(skipped).step_by(kv_heads.len());
                let q: Vec<f32> = shares.flatten().map(|q| q * scale).collect();
                self.attend_to_head(cache, kv_head, &q)
            })
            .collect();
        for (place, out) in self.out.chunks_exact_mut(share).enumerate() {
            let (position, result) = (place / kv_heads.len(), &results[place % kv_heads.len()]);
            out.copy_from_slice(&result[position * share..][..share]);
        }
    }

    /// `q` is `[positions, heads that share the key/value head, head_dim]`, and so is the result.
    fn attend_to_head<T: Element>(&self, cache: &Cache<T>, kv_head: usize, q: &[f32]) -> Vec<f32> {
        let head_dim = cache.kv.head_dim();
        let heads = q.len() / (self.positions * head_dim);
        let rows: Vec<QueryRows> = q
            .chunks(ROWS * head_dim)
            .enumerate()
            .map(|(group, q)| {
                let sees = |row| self.first_position + (group * ROWS + row) / heads + 1;
                QueryRows::new(q, head_dim, sees)
            })
            .collect();
        let end = self.first_position + self.positions;
        let segments: Vec<Vec<Softmax>> = (0..end.div_ceil(SEGMENT))
            .into_par_iter()
            .map(|segment| {
                let keys = segment * SEGMENT..end.min((segment + 1) * SEGMENT);
                instructions::run(Sweep { cache, table: self.table, kv_head, rows: &rows, keys })
            })
            .collect();
        let merged = segments.into_iter().reduce(|mut earlier, later| {
            earlier.iter_mut().zip(&later).for_each(|(earlier, later)| earlier.merge(later));
            earlier
        });
        let finished = merged.unwrap_or_default();
        finished.iter().flat_map(|rows| rows.finish(head_dim)).take(q.len()).collect()
    }
}
