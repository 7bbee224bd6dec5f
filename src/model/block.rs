//! A transformer block, as in Llama (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{Device, Result};
use colm_checkpoint::Projection;
use colm_kernels::{KvBlocks, Rope};

use super::attention::ChainAttention;
use super::layers::ChainRmsNorm;
use super::linear::ChainLinear;
use super::representation::Representation;
use super::rows::{ActiveRows, Step};
use super::source::Source;

/// down(silu(gate) * up).
pub struct ChainMlp {
    pub gate_proj: ChainLinear,
    pub up_proj: ChainLinear,
    pub down_proj: ChainLinear,
}

impl ChainMlp {
    fn load(source: &Source, k: usize) -> Result<Self> {
        Ok(Self {
            gate_proj: source.linear(Projection::Gate, k)?,
            up_proj: source.linear(Projection::Up, k)?,
            down_proj: source.linear(Projection::Down, k)?,
        })
    }

    fn forward_add(
        &self,
        x: &Representation,
        rows: &ActiveRows,
        residual: &Representation,
    ) -> Result<Representation> {
        let gated = ChainLinear::forward_gated(&self.gate_proj, &self.up_proj, x, rows)?;
        self.down_proj.forward_add(&gated, rows, residual)
    }
}

/// x += Attention(norm(x)); x += MLP(norm(x)).
pub struct Block {
    pub input_norm: ChainRmsNorm,
    pub attention: ChainAttention,
    pub post_attention_norm: ChainRmsNorm,
    pub mlp: ChainMlp,
    /// Where the weights are; the rows come along.
    device: Device,
}

impl Block {
    /// The first `k` chains from `source`.
    pub fn load(source: &Source, k: usize, rope: Arc<Rope>) -> Result<Self> {
        Ok(Self {
            input_norm: source.norm("input_layernorm", k)?,
            attention: ChainAttention::load(source, k, rope)?,
            post_attention_norm: source.norm("post_attention_layernorm", k)?,
            mlp: ChainMlp::load(source, k)?,
            device: source.others.device().clone(),
        })
    }

    /// The same rows, one block further.
    pub fn forward(
        &self,
        x: &Representation,
        step: &Step,
        kv: &KvBlocks,
    ) -> Result<Representation> {
        let x = x.to_device(&self.device)?;
        let x = self.attention.forward_add(&self.input_norm.forward(&x)?, step, kv, &x)?;
        self.mlp.forward_add(&self.post_attention_norm.forward(&x)?, &step.active, &x)
    }

    /// The linear layers, in the order of [`Projection::ALL`].
    pub fn linears_mut(&mut self) -> [&mut ChainLinear; 7] {
        let (attention, mlp) = (&mut self.attention, &mut self.mlp);
        [
            &mut attention.q_proj,
            &mut attention.k_proj,
            &mut attention.v_proj,
            &mut attention.o_proj,
            &mut mlp.gate_proj,
            &mut mlp.up_proj,
            &mut mlp.down_proj,
        ]
    }
}
