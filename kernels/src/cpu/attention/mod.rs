//! Chain attention on the CPU, in the manner of FlashAttention: tiles of query vectors with an online softmax over
//! tiles of keys, and flash-decoding's split of long contexts across threads.
//!
//! A row's result must not depend on the other rows of the step. Key tiles and splits therefore begin at fixed
//! multiples counted from position 0, and a query vector goes through the same operations in the same order wherever it
//! is in a tile. Where a tile covers keys that one of its query vectors does not see, that query multiplies by 1 and
//! adds 0; values that are not finite are left out instead.

mod key_tile;
mod online_softmax;
mod query_tile;

use std::sync::OnceLock;

use candle_core::{DType, Result, Tensor};

use super::tensor_rows::{all_contiguous_rows, cpu_storage, read_storages, rows_of};
use super::{for_dtype, thread_pool, Element};
use crate::{BlockTables, ChainQueries, KvBlocks};
use key_tile::LayerCache;
use query_tile::{query_tiles, AttentionChain, QueryTile};

/// Keys per split. The keys of a long context are split even for a single row, so that several threads share them.
const SPLIT_KEYS: usize = 1024;

/// [`crate::chain_attention`], with checked arguments.
pub(crate) fn attend(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    for_dtype!(kv.keys().dtype(), T => attend_typed::<T>(chains, kv, tables, scale))
}

/// [`attend`] with a cache of `T`.
fn attend_typed<T: Element>(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    let (keys, keys_layout) = kv.keys().storage_and_layout();
    let (values, values_layout) = kv.values().storage_and_layout();
    let cache = LayerCache {
        keys: &cpu_storage(&keys)?.as_slice::<T>()?[keys_layout.start_offset()..],
        values: &cpu_storage(&values)?.as_slice::<T>()?[values_layout.start_offset()..],
        layout: kv.cpu_layout(),
    };
    let q = chains.iter().map(|chain| {
        cpu_storage(&chain.q.storage_and_layout().0)?;
        chain.q.to_dtype(DType::F32)
    });
    let q = all_contiguous_rows(&q.collect::<Result<Vec<_>>>()?)?;
    let guards = read_storages(&q);
    let q = rows_of::<f32>(&guards)?;
    let attention_chains: Vec<_> = chains
        .iter()
        .zip(&q)
        .map(|(chain, q)| AttentionChain::new(chain, q, kv.head_dim()))
        .collect();
    let tiles = query_tiles(chains, &attention_chains, tables);
    attend_tiles(&tiles, &cache, scale);
    drop(tiles);
    let tensors = attention_chains.into_iter().zip(chains).map(|(computed, chain)| {
        // SAFETY: the ranges cover all rows, and the tiles of a range all heads.
        unsafe { computed.out.into_tensor(chain.q.dims()) }?.to_dtype(chain.q.dtype())
    });
    tensors.collect()
}

/// One task per tile if there are enough of them for all threads, else one task per tile and split. The splits of a
/// tile are merged in the same order either way.
fn attend_tiles<T: Element>(tiles: &[QueryTile], cache: &LayerCache<T>, scale: f32) {
    let split_count: usize = tiles.iter().map(QueryTile::splits).sum();
    if tiles.len() >= 2 * thread_pool::thread_count() || split_count == tiles.len() {
        return thread_pool::for_each(tiles.len(), |tile| tiles[tile].attend(cache, scale));
    }
    let head_dim = cache.layout.head_dim;
    let queries: Vec<_> = tiles.iter().map(|tile| tile.pack_queries(head_dim, scale)).collect();
    let tasks: Vec<_> = tiles
        .iter()
        .zip(&queries)
        .flat_map(|(tile, queries)| (0..tile.splits()).map(move |split| (tile, queries, split)))
        .collect();
    let partials: Vec<OnceLock<_>> = tasks.iter().map(|_| OnceLock::new()).collect();
    thread_pool::for_each(tasks.len(), |task| {
        let (tile, queries, split) = tasks[task];
        partials[task].get_or_init(|| tile.attend_split(queries, split, cache));
    });
    let mut partials = partials.into_iter().filter_map(OnceLock::into_inner);
    for tile in tiles {
        tile.finish(head_dim, partials.by_ref().take(tile.splits()));
    }
}
