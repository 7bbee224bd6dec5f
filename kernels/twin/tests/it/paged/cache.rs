//! One layer's cache in the layout of the CUDA kernels.

use colm_kernels_twin::attention::KvBlocks;
use colm_kernels_twin::Aligned;

use crate::half_float::HalfFloat;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub kv_heads: usize,
    pub head_dim: usize,
    pub block_size: usize,
}

/// One layer's cache. It is NaN where nothing was written, so that reading there is detected.
pub struct Cache<T> {
    pub shape: Shape,
    pub keys: Aligned<T>,
    pub values: Aligned<T>,
}

impl<T: HalfFloat> Cache<T> {
    pub fn new(shape: Shape, blocks: usize) -> Self {
        let numbers = vec![T::NAN; blocks * shape.kv_heads * shape.block_size * shape.head_dim];
        Self { shape, keys: Aligned::new(&numbers), values: Aligned::new(&numbers) }
    }

    /// The index of the first number of a key or value, in either tensor.
    pub fn row(&self, slot: usize, head: usize) -> usize {
        let Shape { kv_heads, head_dim, block_size } = self.shape;
        ((slot / block_size * kv_heads + head) * block_size + slot % block_size) * head_dim
    }

    pub fn blocks(&mut self) -> KvBlocks {
        KvBlocks {
            keys: self.keys.as_mut_ptr().cast(),
            values: self.values.as_mut_ptr().cast(),
            kv_heads: self.shape.kv_heads as i32,
            block_size: self.shape.block_size as i32,
        }
    }
}
