//! Chain attention on the CPU: tiles of query rows, each sweeping the keys it sees.
//!
//! A row's result must not depend on its company. So keys are swept in tiles and segments counted
//! from position 0, never from a tile's own start; and a row goes through the same operations in the
//! same order wherever in a tile it stands. Where it takes part in more than it sees, because a
//! neighbour sees more, it multiplies by 1 and adds 0.

use std::sync::OnceLock;

use candle_core::{DType, Result, Tensor};

use super::instructions;
use super::key_tile::Cache;
use super::outer::{Columns, COLUMNS, ROWS};
use super::rectangles::Rectangles;
use super::rows::{all_dense, cpu, hold, rows_of};
use super::sweep::{QueryRows, Softmax, Sweep};
use super::team;
use super::{for_dtype, Element, Rows};
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
    let q = chains.iter().map(|chain| {
        cpu(&chain.q.storage_and_layout().0)?;
        chain.q.to_dtype(DType::F32)
    });
    let q = all_dense(&q.collect::<Result<Vec<_>>>()?)?;
    let held = hold(&q);
    let q = rows_of::<f32>(&held)?;
    let heads = chains.iter().zip(&q).map(|(chain, q)| Heads {
        q,
        out: Rectangles::new(chain.q.dims()[0], q.width()),
        shared_by: q.width() / kv.head_dim() / chain.kv_heads.len(),
    });
    let heads: Vec<Heads> = heads.collect();
    let tiles = tiles(chains, &heads, tables);
    attend_tiles(&tiles, &cache, scale);
    drop(tiles);
    let tensors = heads.into_iter().zip(chains).map(|(heads, chain)| {
        // SAFETY: the ranges have all rows, and the tiles of a range all heads.
        unsafe { heads.out.filled(chain.q.dims()) }?.to_dtype(chain.q.dtype())
    });
    tensors.collect()
}

/// Tile by tile if there are enough of them for all threads, else segment by segment. A tile's segments are put
/// together in their order either way.
fn attend_tiles<T: Element>(tiles: &[Tile], cache: &Cache<T>, scale: f32) {
    let segments: usize = tiles.iter().map(Tile::segments).sum();
    if tiles.len() >= 2 * team::threads() || segments == tiles.len() {
        return team::for_each(tiles.len(), |tile| tiles[tile].attend(cache, scale));
    }
    let head_dim = cache.kv.head_dim();
    let rows: Vec<_> = tiles.iter().map(|tile| tile.query_rows(head_dim, scale)).collect();
    let parts: Vec<_> = tiles
        .iter()
        .zip(&rows)
        .flat_map(|(tile, rows)| (0..tile.segments()).map(move |segment| (tile, rows, segment)))
        .collect();
    let swept: Vec<OnceLock<_>> = parts.iter().map(|_| OnceLock::new()).collect();
    team::for_each(parts.len(), |part| {
        let (tile, rows, segment) = parts[part];
        swept[part].get_or_init(|| tile.sweep(rows, segment, cache));
    });
    let mut swept = swept.into_iter().filter_map(OnceLock::into_inner);
    for tile in tiles {
        tile.finish(head_dim, swept.by_ref().take(tile.segments()));
    }
}

/// The queries of one chain, and where their results go.
struct Heads<'a> {
    /// `[rows, heads, head_dim]`
    q: &'a Rows<'a, f32>,
    out: Rectangles,
    /// Query heads that share a key/value head; they are neighbours.
    shared_by: usize,
}

/// Some consecutive rows of one sequence and one key/value head: those of all query heads that read
/// it, of all chains that ask it at the same rows. In CoLM-Air the chains that are active on the same
/// rows fetch every key and value once.
struct Tile<'a> {
    chains: &'a [Heads<'a>],
    /// The first row, in the tensors of the chains.
    row: usize,
    first_position: usize,
    positions: usize,
    kv_head: usize,
    /// Its place among the key/value heads that the chains read.
    kv_place: usize,
    table: &'a [u32],
}

fn tiles<'a>(
    chains: &[ChainQueries],
    mut heads: &'a [Heads<'a>],
    tables: &'a BlockTables,
) -> Vec<Tile<'a>> {
    let mut tiles = Vec::new();
    let together = |one: &ChainQueries, next: &ChainQueries| {
        one.kv_heads == next.kv_heads && one.ranges == next.ranges
    };
    for group in chains.chunk_by(together) {
        let (of_group, others) = heads.split_at(group.len());
        heads = others;
        let shared_by: usize = of_group.iter().map(|heads| heads.shared_by).sum();
        let most = (TILE_ROWS / shared_by).max(1);
        let mut row = 0;
        // A group has at least one chain, and its chains agree.
        let ChainQueries { ranges, kv_heads, .. } = &group[0];
        for range in *ranges {
            for start in (0..range.rows).step_by(most) {
                tiles.extend(kv_heads.clone().enumerate().map(|(kv_place, kv_head)| Tile {
                    chains: of_group,
                    row: row + start,
                    first_position: range.first_position + start,
                    positions: most.min(range.rows - start),
                    kv_head,
                    kv_place,
                    table: tables.blocks(range.sequence).unwrap_or_default(),
                }));
            }
            row += range.rows;
        }
    }
    tiles
}

impl Tile<'_> {
    /// The whole tile.
    fn attend<T: Element>(&self, cache: &Cache<T>, scale: f32) {
        let head_dim = cache.kv.head_dim();
        let rows = self.query_rows(head_dim, scale);
        self.finish(
            head_dim,
            (0..self.segments()).map(|segment| self.sweep(&rows, segment, cache)),
        );
    }

    /// How many tasks its keys may be divided into.
    fn segments(&self) -> usize {
        self.end().div_ceil(SEGMENT)
    }

    /// The first position that no row sees.
    fn end(&self) -> usize {
        self.first_position + self.positions
    }

    fn query_rows(&self, head_dim: usize, scale: f32) -> Vec<QueryRows> {
        let places: Vec<Place> = self.places(head_dim).collect();
        let rows = places.chunks(ROWS).map(|places| {
            let queries = places.iter().map(|place| (self.query(place, head_dim), place.sees));
            QueryRows::new(queries, head_dim, scale)
        });
        rows.collect()
    }

    fn sweep<T: Element>(
        &self,
        rows: &[QueryRows],
        segment: usize,
        cache: &Cache<T>,
    ) -> Vec<Softmax> {
        let keys = segment * SEGMENT..self.end().min((segment + 1) * SEGMENT);
        let (table, kv_head) = (self.table, self.kv_head);
        instructions::run(Sweep { cache, table, kv_head, rows, keys })
    }

    /// Puts the results where they go; `swept` is one segment after the other.
    fn finish(&self, head_dim: usize, swept: impl Iterator<Item = Vec<Softmax>>) {
        let merged = swept.reduce(|mut earlier, later| {
            earlier.iter_mut().zip(&later).for_each(|(earlier, later)| earlier.merge(later));
            earlier
        });
        let mut places = self.places(head_dim);
        for softmax in merged.iter().flatten() {
            for (row, place) in places.by_ref().take(ROWS).enumerate() {
                self.put(&place, softmax.finish(row), head_dim);
            }
        }
    }

    fn put(&self, place: &Place, panels: impl Iterator<Item = Columns>, head_dim: usize) {
        for (panel, numbers) in panels.enumerate() {
            let column = panel * COLUMNS;
            let live = &numbers[..COLUMNS.min(head_dim - column)];
            // SAFETY: tiles differ in rows or in key/value head, and no two of those that share a chain
            // have the same places; nor has a tile a place twice.
            unsafe { self.chains[place.chain].out.put(place.row, place.column + column, live) };
        }
    }

    /// The rows of the tile: position by position, chain by chain, head by head.
    fn places(&self, head_dim: usize) -> impl Iterator<Item = Place> + '_ {
        (0..self.positions).flat_map(move |position| {
            self.chains.iter().enumerate().flat_map(move |(chain, heads)| {
                (0..heads.shared_by).map(move |head| Place {
                    chain,
                    row: self.row + position,
                    column: (self.kv_place * heads.shared_by + head) * head_dim,
                    sees: self.first_position + position + 1,
                })
            })
        })
    }

    fn query(&self, place: &Place, head_dim: usize) -> &[f32] {
        &self.chains[place.chain].q.row(place.row)[place.column..][..head_dim]
    }
}

/// One head of one row.
struct Place {
    chain: usize,
    row: usize,
    /// Where the head begins in the row.
    column: usize,
    /// How many positions it sees.
    sees: usize,
}
