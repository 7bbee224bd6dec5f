//! Keys and values where they stand in the cache, in the form the products take them.

use super::outer::COLUMNS;
use super::prefetch::prefetch;
use super::Element;
use crate::KvBlocks;

/// The numbers of one layer's cache.
pub(crate) struct Cache<'a, T> {
    pub keys: &'a [T],
    pub values: &'a [T],
    pub kv: &'a KvBlocks,
}

/// Up to `COLUMNS` keys of consecutive positions, and their values.
pub(crate) struct Tile<'a, T> {
    /// `[head_dim]` of one number per key.
    pub keys: &'a [[T; COLUMNS]],
    /// Per panel of `COLUMNS` numbers of a head, `stride` keys of which the first are the tile's.
    pub values: &'a [[T; COLUMNS]],
    pub stride: usize,
}

/// The tiles of one sequence and key/value head.
pub(crate) struct KeyTiles<'a, T> {
    cache: &'a Cache<'a, T>,
    table: &'a [u32],
    kv_head: usize,
    /// `[head_dim]`
    keys: Vec<[T; COLUMNS]>,
    /// `[panels, COLUMNS]`
    values: Vec<[T; COLUMNS]>,
}

impl<'a, T: Element> KeyTiles<'a, T> {
    #[inline(always)]
    pub(crate) fn new(cache: &'a Cache<'a, T>, table: &'a [u32], kv_head: usize) -> Self {
        let head_dim = cache.kv.head_dim();
        let panels = head_dim.div_ceil(COLUMNS);
        Self {
            cache,
            table,
            kv_head,
            keys: vec![[T::zero(); COLUMNS]; head_dim],
            values: vec![[T::zero(); COLUMNS]; panels * COLUMNS],
        }
    }

    /// The tile at `start`, a multiple of `COLUMNS`: read in place if the cache's blocks are made of
    /// whole tiles, else put together.
    #[inline(always)]
    pub(crate) fn fetch(&mut self, start: usize, count: usize) -> Tile<'_, T> {
        match self.has_whole_tiles() {
            true => self.in_place(start),
            false => self.gather(start, count),
        }
    }

    /// Has the tile at `start` brought near. Every block of keys is somewhere else, so the processor does not
    /// see by itself what comes next.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize) {
        if self.has_whole_tiles() {
            let tile = self.in_place(start);
            prefetch(tile.keys);
            for values in tile.values.chunks(tile.stride).take(tile.keys.len() / COLUMNS) {
                prefetch(&values[..COLUMNS]);
            }
        }
    }

    #[inline(always)]
    fn has_whole_tiles(&self) -> bool {
        let kv = self.cache.kv;
        kv.key_columns() == COLUMNS && kv.head_dim().is_multiple_of(COLUMNS)
    }

    #[inline(always)]
    fn in_place(&self, start: usize) -> Tile<'a, T> {
        let kv = self.cache.kv;
        let (block, position) = (self.table[start / kv.block_size()], start % kv.block_size());
        let keys = &self.cache.keys[kv.key_start(block, self.kv_head, position)..];
        let values = kv.value_panel(block, self.kv_head, position, 0).start;
        Tile {
            keys: keys[..kv.head_dim() * COLUMNS].as_chunks().0,
            values: self.cache.values[values..].as_chunks().0,
            stride: kv.block_size(),
        }
    }

    /// Key by key.
    #[inline(always)]
    fn gather(&mut self, start: usize, count: usize) -> Tile<'_, T> {
        let kv = self.cache.kv;
        let (size, head_dim) = (kv.block_size(), kv.head_dim());
        for key in 0..count {
            let position = start + key;
            let (block, position) = (self.table[position / size], position % size);
            let first = kv.key_start(block, self.kv_head, position);
            let numbers = self.cache.keys[first..].iter().step_by(kv.key_columns());
            for (to, from) in self.keys.iter_mut().zip(numbers) {
                to[key] = *from;
            }
            for (panel, first) in (0..head_dim).step_by(COLUMNS).enumerate() {
                let from = &self.cache.values[kv.value_panel(block, self.kv_head, position, first)];
                self.values[panel * COLUMNS + key][..from.len()].copy_from_slice(from);
            }
        }
        Tile { keys: &self.keys, values: &self.values, stride: COLUMNS }
    }
}
