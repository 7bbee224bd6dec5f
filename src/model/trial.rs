//! One step of a model that was just loaded: a quantization may load and still not compute.

use candle_core::{Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::{BlockTables, KvBlocks, Slots};

use super::colm::Colm;
use super::rows::{ActiveRows, Sequence, Step};

/// Positions of the only KV block.
const BLOCK_SIZE: usize = 32;

impl Colm {
    /// Computes the logits after one token, at all chains, in a KV cache of one block. Returns the error that every request would get.
    pub fn try_a_step(&self, config: &ColmConfig) -> Result<()> {
        let (heads, dim) = (config.kv_heads.first(self.chains()), config.head_dim);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, self.dtype(), self.device());
        let layer = |_| {
            let keys = zeros(&[1, heads, dim / 4, BLOCK_SIZE, 4])?;
            let values = zeros(&[1, heads, dim, BLOCK_SIZE])?;
            KvBlocks::from_host(&keys, &values, dim)
        };
        let kv = (0..config.file.num_hidden_layers).map(layer).collect::<Result<Vec<_>>>()?;
        let one = Sequence { first_position: 0, rows: 1, logits: 0..1, chains: self.chains() };
        let active = ActiveRows::new(vec![one], &config.kv_heads)?;
        let step =
            Step::new(vec![0], &Slots::new(vec![0]), BlockTables::new(vec![vec![0]]), active)?;
        self.forward(&step, &kv)?.sum_all()?.to_scalar::<f32>()?;
        Ok(())
    }
}
