//! The norm and the embedding of docs/spec.md#layers.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use colm_checkpoint::{ColmConfig, Split};
use colm_kernels::{chain_rms_norm, ChainWeights, Unpacked};
use mistralrs_quant::ShardedVarBuilder;

use super::representation::Representation;
use super::rows::Step;

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
        let weights = weights.iter().map(|weight| weight.to_dtype(computed_in(weight)));
        let weights = weights.collect::<Result<_>>()?;
        Ok(Self { weights, eps: config.file.rms_norm_eps })
    }

    /// The same shape as `x`.
    pub fn forward(&self, x: &Representation) -> Result<Representation> {
        Ok(Representation::new(chain_rms_norm(x.chains(), &self.weights, self.eps)?))
    }
}

/// x_i is the row of E_i that the token names.
pub struct ChainEmbedding {
    /// Per chain `[vocab_size, hidden_i]`.
    pub(super) tables: Vec<Table>,
}

pub(super) enum Table {
    Rows(Tensor),
    /// The head's too (`tie_word_embeddings`).
    Tied(Arc<ChainWeights>),
}

impl ChainEmbedding {
    /// The tables of the first `k` chains from `vb`, which stands at the embedding's name.
    pub fn load(config: &ColmConfig, k: usize, vb: &ShardedVarBuilder) -> Result<Self> {
        let vocab = config.file.vocab_size;
        let tables = load_chains(&config.hidden, k, vb, |width| vec![vocab, width])?;
        Ok(Self { tables: tables.into_iter().map(Table::Rows).collect() })
    }

    /// Each chain's rows of the step, in the dtype the model computes in.
    pub fn forward(&self, step: &Step) -> Result<Representation> {
        let chains = self.tables.iter().take(step.active.chains()).enumerate();
        let rows = chains.map(|(i, table)| {
            let tokens = step.tokens_of(i);
            match table {
                Table::Tied(weights) => weights.rows(0, &tokens),
                Table::Rows(table) => {
                    let rows = table.index_select(&Tensor::new(tokens, table.device())?, 0)?;
                    rows.to_dtype(computed_in(table))
                }
            }
        });
        Ok(Representation::new(rows.collect::<Result<_>>()?))
    }

    /// The tables, chain by chain, as they were loaded.
    pub fn tables(&self) -> Result<Vec<Tensor>> {
        let tables = self.tables.iter().map(|table| match table {
            Table::Rows(table) => Ok(table.clone()),
            Table::Tied(weights) => match weights.unpack()? {
                Unpacked::Floats(mut table) => Ok(table.remove(0).0),
                Unpacked::Quantized(table) => table[0].dequantize(&Device::Cpu),
            },
        });
        tables.collect()
    }
}

/// What the model computes in where its weights are like these.
fn computed_in(weights: &Tensor) -> DType {
    colm_kernels::activations(weights.device(), weights.dtype())
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
