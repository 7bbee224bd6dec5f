//! A transformer block, as in Llama (SPEC 2).

use std::sync::Arc;

use candle_core::{Device, Result};
use colm_checkpoint::{ColmConfig, Projection};
use colm_kernels::{silu_mul, KvBlocks, Rope};
use mistralrs_quant::{QuantizedConfig, ShardedVarBuilder};

use super::attention::ChainAttention;
use super::layers::{ChainLinear, ChainRmsNorm};
use super::representation::{Prefixes, Representation};
use super::rows::{ActiveRows, Step};

/// down(silu(gate) * up).
pub struct ChainMlp {
    pub gate_proj: ChainLinear,
    pub up_proj: ChainLinear,
    pub down_proj: ChainLinear,
}

impl ChainMlp {
    fn load(
        config: &ColmConfig,
        k: usize,
        quantization: &Option<QuantizedConfig>,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let load = |projection: Projection| {
            ChainLinear::load(config, projection, k, quantization, &vb.pp(projection.name()))
        };
        Ok(Self {
            gate_proj: load(Projection::Gate)?,
            up_proj: load(Projection::Up)?,
            down_proj: load(Projection::Down)?,
        })
    }

    fn forward(&self, x: &Prefixes, rows: &ActiveRows) -> Result<Representation> {
        let (gate, up) = (self.gate_proj.forward(x)?, self.up_proj.forward(x)?);
        let gated = gate.chains().iter().zip(up.chains());
        let gated = gated.map(|(gate, up)| silu_mul(gate, up));
        let gated = Representation::new(gated.collect::<Result<_>>()?);
        self.down_proj.forward(&gated.prefixes(rows)?)
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
    /// The first `k` chains from `vb`, which stands at the layer's name; `norms` stands there too,
    /// on the device that computes (with in-situ quantization `vb` may load to the CPU first).
    pub fn load(
        config: &ColmConfig,
        k: usize,
        rope: Arc<Rope>,
        quantization: &Option<QuantizedConfig>,
        vb: &ShardedVarBuilder,
        norms: &ShardedVarBuilder,
    ) -> Result<Self> {
        let norm = |name| ChainRmsNorm::load(config, k, &norms.pp(name));
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: ChainAttention::load(config, k, rope, quantization, vb)?,
            post_attention_norm: norm("post_attention_layernorm")?,
            mlp: ChainMlp::load(config, k, quantization, vb)?,
            device: norms.device().clone(),
        })
    }

    /// The same rows, one block further.
    pub fn forward(
        &self,
        x: &Representation,
        step: &Step,
        kv: &KvBlocks,
    ) -> Result<Representation> {
        let rows = &step.active;
        let x = x.to_device(&self.device)?;
        let normed = self.input_norm.forward(&x)?.prefixes(rows)?;
        let x = x.add(&self.attention.forward(&normed, step, kv)?)?;
        let normed = self.post_attention_norm.forward(&x)?.prefixes(rows)?;
        x.add(&self.mlp.forward(&normed, rows)?)
    }
}
