//! KV blocks as bytes, to keep them outside the cache.

use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, DType, InplaceOp1, Layout, Result};

use crate::cpu::tensor_rows::cpu_storage;
use crate::cpu::{for_dtype, Element};
use crate::KvBlocks;

impl KvBlocks {
    /// The bytes of the keys and values of one block in the first `heads` key/value heads.
    pub fn bytes_per_block(&self, heads: usize) -> usize {
        2 * heads * self.numbers_per_head() * self.dtype().size_in_bytes()
    }

    /// Appends the keys and then the values of `block` in the first `heads` key/value heads to `bytes`, in the order of the
    /// cache.
    ///
    /// # Errors
    /// If there is no such block or no such head, or if the cache is not in CPU memory.
    pub fn read_block(&self, block: usize, heads: usize, bytes: &mut Vec<u8>) -> Result<()> {
        self.check_block(block, heads)?;
        for tensor in [self.keys(), self.values()] {
            let (storage, layout) = tensor.storage_and_layout();
            let first = layout.start_offset() + self.start_of(block);
            let storage = cpu_storage(&storage)?;
            for_dtype!(tensor.dtype(), T => {
                let numbers = &storage.as_slice::<T>()?[first..][..heads * self.numbers_per_head()];
                bytes.extend_from_slice(bytemuck::cast_slice(numbers));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes what [`read_block`](Self::read_block) has read from a block of a cache with the same sizes and dtype.
    ///
    /// # Errors
    /// If there is no such block or no such head, or if `bytes` is not [`bytes_per_block`](Self::bytes_per_block) long.
    /// Then nothing is written.
    pub fn write_block(&self, block: usize, heads: usize, bytes: &[u8]) -> Result<()> {
        self.check_block(block, heads)?;
        if bytes.len() != self.bytes_per_block(heads) {
            bail!("a KV block has {} bytes, not {}", self.bytes_per_block(heads), bytes.len());
        }
        let first = self.start_of(block);
        let (keys, values) = bytes.split_at(bytes.len() / 2);
        self.keys().inplace_op1(&WriteBytes { first, bytes: keys })?;
        self.values().inplace_op1(&WriteBytes { first, bytes: values })
    }

    /// The dtype of keys and values.
    pub fn dtype(&self) -> DType {
        self.keys().dtype()
    }

    /// Numbers of one head in a block, in each of the two tensors. The heads of a block follow each other.
    fn numbers_per_head(&self) -> usize {
        self.block_size() * self.head_dim()
    }

    fn start_of(&self, block: usize) -> usize {
        block * self.kv_head_count() * self.numbers_per_head()
    }

    fn check_block(&self, block: usize, heads: usize) -> Result<()> {
        if block >= self.block_count() {
            bail!("block {block} of a cache with {} blocks", self.block_count());
        }
        self.check_heads(&(0..heads))?;
        cpu_storage(&self.keys().storage_and_layout().0).map(|_| ())
    }
}

/// Writes bytes over the numbers of a tensor from the index `first` on.
struct WriteBytes<'a> {
    first: usize,
    bytes: &'a [u8],
}

impl InplaceOp1 for WriteBytes<'_> {
    fn name(&self) -> &'static str {
        "kv_block_bytes"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        for_dtype!(storage.dtype(), T => {
            let first = layout.start_offset() + self.first;
            let count = self.bytes.len() / size_of::<T>();
            let numbers = &mut T::slice_mut(storage)?[first..][..count];
            bytemuck::cast_slice_mut(numbers).copy_from_slice(self.bytes);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::Slots;

    const BLOCKS: usize = 3;
    const BLOCK_SIZE: usize = 8;
    const HEADS: usize = 2;
    const HEAD_DIM: usize = 4;

    fn cache(dtype: DType) -> Result<KvBlocks> {
        let keys = Tensor::zeros((BLOCKS, HEADS, 1, BLOCK_SIZE, HEAD_DIM), dtype, &Device::Cpu)?;
        let values = Tensor::zeros((BLOCKS, HEADS, HEAD_DIM, BLOCK_SIZE), dtype, &Device::Cpu)?;
        KvBlocks::from_tensors(&keys, &values, HEAD_DIM)
    }

    /// A cache whose numbers all differ.
    fn filled(dtype: DType) -> Result<KvBlocks> {
        let cache = cache(dtype)?;
        let rows = BLOCKS * BLOCK_SIZE;
        let numbers = (rows * HEADS * HEAD_DIM) as f32;
        let keys = Tensor::arange(0.0, numbers, &Device::Cpu)?.reshape((rows, HEADS, HEAD_DIM))?;
        let slots: Vec<i64> = (0..rows as i64).collect();
        let slots = Slots::new(slots);
        cache.write(0..HEADS, &keys, &keys.neg()?, &slots)?;
        Ok(cache)
    }

    #[test]
    fn a_block_is_written_as_it_was_read() -> Result<()> {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let (from, to) = (filled(dtype)?, cache(dtype)?);
            let mut bytes = Vec::new();
            from.read_block(1, HEADS, &mut bytes)?;
            assert_eq!(bytes.len(), from.bytes_per_block(HEADS));
            to.write_block(2, HEADS, &bytes)?;
            for (from, to) in [(from.keys(), to.keys()), (from.values(), to.values())] {
                let block = |tensor: &Tensor, block| {
                    tensor.to_dtype(DType::F32)?.get(block)?.flatten_all()?.to_vec1::<f32>()
                };
                assert_eq!(block(from, 1)?, block(to, 2)?);
                assert!(block(to, 1)?.iter().all(|&number| number == 0.0), "a block beside it");
            }
        }
        Ok(())
    }

    #[test]
    fn the_first_heads_alone_leave_the_others() -> Result<()> {
        let (from, to) = (filled(DType::F32)?, cache(DType::F32)?);
        let mut bytes = Vec::new();
        from.read_block(1, 1, &mut bytes)?;
        to.write_block(1, 1, &bytes)?;
        for (from, to) in [(from.keys(), to.keys()), (from.values(), to.values())] {
            let head = |tensor: &Tensor, head| tensor.get(1)?.get(head)?.to_vec1::<f32>();
            assert_eq!(head(from, 0)?, head(to, 0)?);
            assert!(head(to, 1)?.iter().all(|&number| number == 0.0));
        }
        Ok(())
    }

    #[test]
    fn blocks_and_bytes_that_do_not_fit_are_refused() -> Result<()> {
        let cache = cache(DType::F32)?;
        let mut bytes = Vec::new();
        let error = cache.read_block(BLOCKS, HEADS, &mut bytes).unwrap_err().to_string();
        assert!(error.contains("block 3 of a cache with 3 blocks"), "{error}");
        cache.read_block(0, HEADS, &mut bytes)?;
        bytes.pop();
        let error = cache.write_block(0, HEADS, &bytes).unwrap_err().to_string();
        assert!(error.contains("a KV block has 512 bytes, not 511"), "{error}");
        Ok(())
    }
}
