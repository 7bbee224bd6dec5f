//! How much the KV cache holds.

use candle_core::DType;
use colm_checkpoint::{ChainCount, ColmConfig};

use crate::error::Error;

/// The pool of KV blocks that the engine is going to allocate.
#[derive(Clone, Copy, Debug)]
pub struct KvPool {
    /// MiB for the keys and values of all layers.
    pub mib: usize,
    /// Positions per block.
    pub block_size: usize,
}

const MIB: usize = 1024 * 1024;

impl KvPool {
    /// The bytes of the keys and values of all layers.
    pub fn bytes(&self) -> usize {
        self.mib.saturating_mul(MIB)
    }

    /// How many tokens it holds.
    pub fn tokens(&self, config: &ColmConfig, k: ChainCount, dtype: DType) -> usize {
        self.bytes() / kv_bytes_per_token(config, k, dtype).max(1)
    }

    /// Fails if no sequence could ever run: the engine keeps one block for itself, and a sequence needs one.
    pub fn check(&self, config: &ColmConfig, k: ChainCount, dtype: DType) -> Result<(), Error> {
        let bytes_per_block = self.block_size * kv_bytes_per_token(config, k, dtype);
        if self.bytes() / bytes_per_block >= 2 {
            return Ok(());
        }
        let (block_size, needed) = (self.block_size, (2 * bytes_per_block).div_ceil(MIB));
        Err(Error::InvalidOption {
            option: "kv_cache_mib",
            value: self.mib.to_string(),
            problem: format!(
                "too small for this model: a block of {block_size} tokens takes {bytes_per_block} bytes and at \
                 least 2 blocks are needed, expected {needed} or more"
            ),
        })
    }
}

/// Bytes of keys and values per token at `k` chains, all layers (docs/spec.md#cost).
pub fn kv_bytes_per_token(config: &ColmConfig, k: ChainCount, dtype: DType) -> usize {
    let heads = config.kv_heads.first(k.get());
    2 * config.file.num_hidden_layers * heads * allocated_head_dim(config) * dtype.size_in_bytes()
}

/// The head size that the host allocates keys and values for: it groups the numbers of a key by 16 bytes, which are 8
/// numbers in the smallest dtype.
pub(super) fn allocated_head_dim(config: &ColmConfig) -> usize {
    config.head_dim.next_multiple_of(8)
}
