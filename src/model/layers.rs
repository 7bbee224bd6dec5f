//! The layers of SPEC 2, each a list of per-chain parts.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use candle_nn::Linear;
use colm_checkpoint::{ColmConfig, Projection, Split};
use colm_kernels::chain_rms_norm;
use mistralrs_quant::{
    linear_b, QuantMethod, QuantMethodConfig, QuantizedConfig, ShardedVarBuilder, UnquantLinear,
};

use super::representation::{Prefixes, Representation};
use super::rows::{ActiveRows, Step};

/// y_i = W_i x_<=i, with one [`QuantMethod`] per chain block, so that choosing k never slices
/// quantized weights.
pub struct ChainLinear {
    /// Of the chains that have an output here: all, or chain 1 alone (Air's keys and values).
    pub blocks: Vec<Arc<dyn QuantMethod>>,
}

impl ChainLinear {
    /// The blocks of the first `k` chains from `vb`, which stands at the projection's name.
    pub fn load(
        config: &ColmConfig,
        projection: Projection,
        k: usize,
        quantization: &Option<QuantizedConfig>,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let (inputs, outputs) = (config.inputs(projection), config.outputs(projection));
        let owners = (0..k).filter(|&i| outputs.of(i) > 0);
        let block = |i: usize| {
            let vb = vb.pp("chains").pp(i);
            linear_b(inputs.upto(i), outputs.of(i), config.has_bias(projection), quantization, vb)
        };
        Ok(Self { blocks: owners.map(block).collect::<Result<_>>()? })
    }

    /// The outputs of every chain that has rows and a block.
    pub fn forward(&self, x: &Prefixes) -> Result<Representation> {
        let outputs = self.blocks.iter().zip(x.iter());
        let outputs = outputs.map(|(block, x)| block.forward_autocast(x));
        Ok(Representation::new(outputs.collect::<Result<_>>()?))
    }
}

/// y_i = w_i * x_i / sqrt(mean(x_i^2) + eps), the mean over the chain alone.
pub struct ChainRmsNorm {
    /// Per chain `[hidden_i]`.
    pub weights: Vec<Tensor>,
    eps: f64,
}

impl ChainRmsNorm {
    /// The weights of the first `k` chains from `vb`, which stands at the norm's name.
    pub fn load(config: &ColmConfig, k: usize, vb: &ShardedVarBuilder) -> Result<Self> {
        let weights = load_chains(&config.hidden, k, vb, |width| vec![width])?;
        Ok(Self { weights, eps: config.file.rms_norm_eps })
    }

    /// The same shape as `x`.
    pub fn forward(&self, x: &Representation) -> Result<Representation> {
        let chains = x.chains().iter().zip(&self.weights);
        let normed = chains.map(|(x, weight)| chain_rms_norm(x, weight, self.eps));
        Ok(Representation::new(normed.collect::<Result<_>>()?))
    }
}

/// x_i is the row of E_i that the token names.
pub struct ChainEmbedding {
    /// Per chain `[vocab_size, hidden_i]`.
    pub tables: Vec<Tensor>,
}

impl ChainEmbedding {
    /// The tables of the first `k` chains from `vb`, which stands at the embedding's name.
    pub fn load(config: &ColmConfig, k: usize, vb: &ShardedVarBuilder) -> Result<Self> {
        let vocab = config.file.vocab_size;
        let tables = load_chains(&config.hidden, k, vb, |width| vec![vocab, width])?;
        Ok(Self { tables })
    }

    /// Each chain's rows of the step.
    pub fn forward(&self, step: &Step) -> Result<Representation> {
        let chains = self.tables.iter().take(step.active.chains()).enumerate();
        let rows =
            chains.map(|(i, table)| table.index_select(&step.tokens_of(i, table.device())?, 0));
        Ok(Representation::new(rows.collect::<Result<_>>()?))
    }
}

/// logits at k chains = sum over i <= k of U_i z_i.
pub struct ChainHead {
    /// Per chain U_i, `[vocab_size, hidden_i]`.
    pub blocks: Vec<Arc<dyn QuantMethod>>,
}

impl ChainHead {
    /// The blocks of the first `k` chains from `vb`, which stands at the head's name.
    pub fn load(
        config: &ColmConfig,
        k: usize,
        quantization: &Option<QuantizedConfig>,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let block = |i: usize| {
            let vb = vb.pp("chains").pp(i);
            linear_b(config.hidden.of(i), config.file.vocab_size, false, quantization, vb)
        };
        Ok(Self { blocks: (0..k).map(block).collect::<Result<_>>()? })
    }

    /// U_i = E_i (`tie_word_embeddings`).
    pub fn tied(embedding: &ChainEmbedding) -> Result<Self> {
        let block = |table: &Tensor| -> Result<Arc<dyn QuantMethod>> {
            let linear = QuantMethodConfig::Unquantized(Linear::new(table.clone(), None));
            Ok(Arc::new(UnquantLinear::new(linear)?))
        };
        Ok(Self { blocks: embedding.tables.iter().map(block).collect::<Result<_>>()? })
    }

    /// `[rows of chain 1, vocab_size]` f32: every row at the chain count of its sequence.
    pub fn forward(&self, z: &Representation, rows: &ActiveRows) -> Result<Tensor> {
        let mut logits: Option<Tensor> = None;
        for (i, (z, block)) in z.chains().iter().zip(&self.blocks).enumerate() {
            let part = block.forward_autocast(z)?.to_dtype(DType::F32)?;
            logits = Some(match logits {
                None => part,
                Some(sum) if rows.count(i) == rows.count(0) => (sum + part)?,
                Some(sum) => sum.index_add(&rows.within_first(i, z.device())?, &part, 0)?,
            });
        }
        logits.ok_or_else(|| candle_core::Error::msg("a step without rows has no logits"))
    }
}

/// `chains.{i}.weight` of the first `k` chains, each of the shape its width gives.
fn load_chains(
    widths: &Split,
    k: usize,
    vb: &ShardedVarBuilder,
    shape: impl Fn(usize) -> Vec<usize>,
) -> Result<Vec<Tensor>> {
    let weight = |i: usize| vb.pp("chains").pp(i).get(shape(widths.of(i)), "weight");
    (0..k).map(weight).collect()
}
