//! A decoder layer, as in Llama (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{Device, Result};
use colm_checkpoint::{Projection, TensorId};
use colm_kernels::{KvBlocks, Rope};

use super::active_rows::ActiveRows;
use super::attention::ChainAttention;
use super::linear::ChainLinear;
use super::norm::ChainRmsNorm;
use super::representation::Representation;
use super::step::{OutputRows, Step};
use super::weight_source::Weights;

/// y = down(silu(gate(x)) * up(x)).
pub struct ChainMlp {
    /// gate
    pub gate_proj: ChainLinear,
    /// up
    pub up_proj: ChainLinear,
    /// down
    pub down_proj: ChainLinear,
}

impl ChainMlp {
    fn load(weights: &Weights, layer: usize) -> Result<Self> {
        Ok(Self {
            gate_proj: weights.projection(layer, Projection::Gate)?,
            up_proj: weights.projection(layer, Projection::Up)?,
            down_proj: weights.projection(layer, Projection::Down)?,
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
pub struct DecoderLayer {
    /// The norm before attention.
    pub input_layernorm: ChainRmsNorm,
    /// Attention.
    pub self_attn: ChainAttention,
    /// The norm before the MLP.
    pub post_attention_layernorm: ChainRmsNorm,
    /// The MLP.
    pub mlp: ChainMlp,
    /// Where the weights are; activations are moved there.
    device: Device,
}

impl DecoderLayer {
    /// Loads the layer at index `layer`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(weights: &Weights, layer: usize, rope: Arc<Rope>) -> Result<Self> {
        Ok(Self {
            input_layernorm: weights.norm(TensorId::InputNorm { layer })?,
            self_attn: ChainAttention::load(weights, layer, rope)?,
            post_attention_layernorm: weights.norm(TensorId::PostAttentionNorm { layer })?,
            mlp: ChainMlp::load(weights, layer)?,
            device: weights.source.device(Some(layer)),
        })
    }

    /// The output of the layer at the rows `outputs`, which are some of the step's rows, those of `x`. Writes keys and
    /// values of all rows of the step to `kv`.
    pub fn forward(
        &self,
        x: &Representation,
        step: &Step,
        outputs: &OutputRows,
        kv: &KvBlocks,
    ) -> Result<Representation> {
        let x = x.to_device(&self.device)?;
        let normed = self.input_layernorm.forward(&x)?;
        let x = self.self_attn.forward_add(&normed, step, outputs, kv, &x)?;
        self.mlp.forward_add(&self.post_attention_layernorm.forward(&x)?, &outputs.rows, &x)
    }

    /// The linear layers, in the order of [`Projection::ALL`].
    pub fn linears_mut(&mut self) -> [&mut ChainLinear; 7] {
        let (attention, mlp) = (&mut self.self_attn, &mut self.mlp);
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
