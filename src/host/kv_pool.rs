//! How much the KV cache holds.

use candle_core::DType;
use colm_checkpoint::ColmConfig;
use thiserror::Error;

/// The block pool the engine is going to allocate.
#[derive(Clone, Copy, Debug)]
pub struct KvPool {
    /// MiB for the keys and values of all layers.
    pub mib: usize,
    /// Positions per block.
    pub block_size: usize,
}

/// The pool cannot hold the block the engine keeps for itself and one for a sequence.
#[derive(Debug, Error)]
#[error(
    "--kv-cache-mb {mib} is too small for this model: a block of {block_size} tokens takes \
     {bytes_per_block} bytes and at least 2 blocks are needed, expected {needed} or more"
)]
pub struct KvPoolTooSmall {
    mib: usize,
    block_size: usize,
    bytes_per_block: usize,
    needed: usize,
}

const MIB: usize = 1024 * 1024;

impl KvPool {
    /// The bytes of the keys and values of all layers.
    pub fn bytes(&self) -> usize {
        self.mib.saturating_mul(MIB)
    }

    /// How many tokens it holds.
    pub fn tokens(&self, config: &ColmConfig, k: usize, dtype: DType) -> usize {
        self.bytes() / kv_bytes_per_token(config, k, dtype).max(1)
    }

    /// Refuses a pool in which no sequence could ever run.
    pub fn check(&self, config: &ColmConfig, k: usize, dtype: DType) -> Result<(), KvPoolTooSmall> {
        let bytes_per_block = self.block_size * kv_bytes_per_token(config, k, dtype);
        if self.bytes() / bytes_per_block >= 2 {
            return Ok(());
        }
        Err(KvPoolTooSmall {
            mib: self.mib,
            block_size: self.block_size,
            bytes_per_block,
            needed: (2 * bytes_per_block).div_ceil(MIB),
        })
    }
}

/// Bytes of keys and values per token at `k` chains, all layers (docs/spec.md#cost).
pub fn kv_bytes_per_token(config: &ColmConfig, k: usize, dtype: DType) -> usize {
    let heads = config.kv_heads.first(k);
    2 * config.file.num_hidden_layers * heads * config.head_dim * dtype.size_in_bytes()
}
