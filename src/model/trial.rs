//! A trial step of a model that was just loaded: some quantizations load but cannot compute.

use candle_core::Result;

use super::active_rows::SequenceRows;
use super::colm::Colm;
use super::step::SequenceInput;

/// Positions of the only KV block.
const BLOCK_SIZE: usize = 32;

impl Colm {
    /// Computes the logits after one token, at all chains, on a KV cache of one block. An error here is the error
    /// that every request would get.
    pub fn try_a_step(&self) -> Result<()> {
        let k = self.chain_count().get();
        let kv = self.new_kv_cache(1, BLOCK_SIZE)?;
        let rows = SequenceRows { first_position: 0, count: 1, logits: 0..1, chain_count: k };
        let sequence = SequenceInput { rows, tokens: vec![0], block_table: vec![0] };
        let step = self.step(vec![sequence], BLOCK_SIZE)?;
        self.forward(&step, &kv)?.sum_all()?.to_scalar::<f32>()?;
        Ok(())
    }
}
