//! Tiles of keys and values of the paged cache, as packed rhs panels.

use crate::cpu::arch::prefetch;
use crate::cpu::gemm::NR;
use crate::cpu::kv_layout::KvLayout;
use crate::cpu::Element;

/// One layer's cache in CPU memory.
pub(super) struct LayerCache<'a, T> {
    pub keys: &'a [T],
    pub values: &'a [T],
    pub layout: KvLayout,
}

/// Up to [`NR`] keys of consecutive positions, and their values.
pub(super) struct KeyTile<'a, T> {
    /// The rhs panel of queries times keys: `[head_dim]` of one number per key.
    pub keys: &'a [[T; NR]],
    /// The rhs panels of weights times values: per [`NR`] elements of the head, `value_stride` positions, of which the
    /// first are the tile's.
    pub values: &'a [[T; NR]],
    pub value_stride: usize,
}

/// Reads the key tiles of one sequence and key/value head.
pub(super) struct KeyTileReader<'a, T> {
    cache: &'a LayerCache<'a, T>,
    table: &'a [u32],
    kv_head: usize,
    /// Buffer for gathered keys, `[head_dim]`.
    keys: Vec<[T; NR]>,
    /// Buffer for gathered values, `[panels, NR]`.
    values: Vec<[T; NR]>,
}

impl<'a, T: Element> KeyTileReader<'a, T> {
    #[inline(always)]
    pub(super) fn new(cache: &'a LayerCache<'a, T>, table: &'a [u32], kv_head: usize) -> Self {
        let head_dim = cache.layout.head_dim;
        let panels = head_dim.div_ceil(NR);
        Self {
            cache,
            table,
            kv_head,
            keys: vec![[T::zero(); NR]; head_dim],
            values: vec![[T::zero(); NR]; panels * NR],
        }
    }

    /// The tile of `count` keys at `start`, a multiple of [`NR`]. It is read in place if the layout has contiguous
    /// tiles, else gathered.
    #[inline(always)]
    pub(super) fn read(&mut self, start: usize, count: usize) -> KeyTile<'_, T> {
        if self.tiles_are_contiguous() {
            self.in_place(start)
        } else {
            self.gather(start, count)
        }
    }

    /// Prefetches the tile at `start`. The hardware prefetcher cannot predict it, because the KV blocks of a sequence
    /// are scattered.
    #[inline(always)]
    pub(super) fn prefetch(&self, start: usize) {
        if self.tiles_are_contiguous() {
            let tile = self.in_place(start);
            prefetch(tile.keys);
            for values in tile.values.chunks(tile.value_stride).take(tile.keys.len() / NR) {
                prefetch(&values[..NR]);
            }
        }
    }

    #[inline(always)]
    fn tiles_are_contiguous(&self) -> bool {
        let layout = self.cache.layout;
        layout.key_interleave == NR && layout.head_dim.is_multiple_of(NR)
    }

    #[inline(always)]
    fn in_place(&self, start: usize) -> KeyTile<'a, T> {
        let layout = self.cache.layout;
        let block_size = layout.block_size;
        let (block, offset) = (self.table[start / block_size], start % block_size);
        let keys = &self.cache.keys[layout.key_start(block, self.kv_head, offset)..];
        let values = layout.value_panel(block, self.kv_head, offset, 0).start;
        KeyTile {
            keys: keys[..layout.head_dim * NR].as_chunks().0,
            values: self.cache.values[values..].as_chunks().0,
            value_stride: block_size,
        }
    }

    /// Copies the tile key by key.
    #[inline(always)]
    fn gather(&mut self, start: usize, count: usize) -> KeyTile<'_, T> {
        let layout = self.cache.layout;
        let (block_size, head_dim) = (layout.block_size, layout.head_dim);
        for key in 0..count {
            let position = start + key;
            let (block, offset) = (self.table[position / block_size], position % block_size);
            let first = layout.key_start(block, self.kv_head, offset);
            let numbers = self.cache.keys[first..].iter().step_by(layout.key_interleave);
            for (to, from) in self.keys.iter_mut().zip(numbers) {
                to[key] = *from;
            }
            for (panel, first) in (0..head_dim).step_by(NR).enumerate() {
                let from = layout.value_panel(block, self.kv_head, offset, first);
                let from = &self.cache.values[from];
                self.values[panel * NR + key][..from.len()].copy_from_slice(from);
            }
        }
        KeyTile { keys: &self.keys, values: &self.values, value_stride: NR }
    }
}
