//! The LM head, the output layer: the logits at k chains are the sum over i <= k of U_i z_i (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::{chain_linear_add, ChainRows, ChainWeights, Unpacked};
use mistralrs_quant::{linear_b, QuantMethod, QuantizedConfig, ShardedVarBuilder};

use super::active_rows::ActiveRows;
use super::embedding::{ChainEmbedding, Table};
use super::host_linears::{
    host_linears, linear_forward, pack_linears, unquantized_weights, HostLinears,
};
use super::linear::packed_forward;
use super::representation::Representation;

/// Per chain U_i, `[vocab_size, hidden_i]`.
pub struct LmHead {
    chains: Vec<LmHeadWeights>,
}

/// U_i, held as in [`super::linear::ChainLinear`].
enum LmHeadWeights {
    Packed(Arc<ChainWeights>),
    Host(Arc<dyn QuantMethod>),
}

impl LmHead {
    /// Loads the first `k` chains. `vb` is at the name `lm_head`. Weights that the host has not quantized are packed if
    /// `pack` is true.
    pub fn load(
        config: &ColmConfig,
        k: usize,
        quantization: &Option<QuantizedConfig>,
        pack: bool,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let linear = |i: usize| {
            let vb = vb.pp("chains").pp(i);
            linear_b(config.hidden.of(i), config.file.vocab_size, false, quantization, vb)
        };
        Self::of_linears((0..k).map(linear).collect::<Result<_>>()?, pack)
    }

    /// U_i = E_i (`tie_word_embeddings`). Packed weights are shared with the embedding.
    pub fn tied(embedding: &mut ChainEmbedding, pack: bool) -> Result<Self> {
        let tables = embedding.tables()?.into_iter().map(|table| (table, None));
        let tables = Unpacked::Floats(tables.collect());
        let head = Self::of_linears(host_linears(tables)?, pack)?;
        for (table, weights) in embedding.tables.iter_mut().zip(&head.chains) {
            if let LmHeadWeights::Packed(weights) = weights {
                *table = Table::Tied(weights.clone());
            }
        }
        Ok(head)
    }

    fn of_linears(linears: HostLinears, pack: bool) -> Result<Self> {
        let chains = match unquantized_weights(&linears)? {
            Some(weights) if pack => {
                let packed =
                    weights.into_iter().map(|weights| ChainWeights::pack_floats(&[weights]));
                packed.map(|weights| Ok(LmHeadWeights::Packed(Arc::new(weights?)))).collect()
            }
            _ => Ok(linears.into_iter().map(LmHeadWeights::Host).collect()),
        };
        chains.map(|chains: Vec<_>| Self { chains })
    }

    /// As [`super::linear::ChainLinear::pack_quantized`].
    pub fn pack_quantized(&mut self) -> Result<()> {
        for weights in &mut self.chains {
            if let LmHeadWeights::Host(linear) = weights {
                if let Some(packed) = pack_linears(std::slice::from_ref(linear))? {
                    *weights = LmHeadWeights::Packed(Arc::new(packed));
                }
            }
        }
        Ok(())
    }

    /// `[rows of chain 1, vocab_size]` f32: every row at the chain count of its sequence.
    pub fn forward(&self, z: &Representation, rows: &ActiveRows) -> Result<Tensor> {
        let mut logits: Option<Tensor> = None;
        for (i, (z, weights)) in z.chains().iter().zip(&self.chains).enumerate() {
            logits = Some(match logits {
                Some(sum) if rows.count(i) < rows.count(0) => {
                    let part = weights.forward(z, None)?;
                    sum.index_add(&rows.within_first(i, sum.device())?, &part, 0)?
                }
                sum => weights.forward(z, sum)?,
            });
        }
        logits.ok_or_else(|| candle_core::Error::msg("the step requests no logits"))
    }

    /// The weights in the host's form, for the host to quantize. Packed weights are unpacked and stay unpacked.
    pub fn host_linears_mut(&mut self) -> Result<Vec<&mut Arc<dyn QuantMethod>>> {
        for weights in &mut self.chains {
            if let LmHeadWeights::Packed(packed) = weights {
                *weights = LmHeadWeights::Host(host_linears(packed.unpack()?)?.remove(0));
            }
        }
        let linears = self.chains.iter_mut().filter_map(|weights| match weights {
            LmHeadWeights::Host(linear) => Some(linear),
            LmHeadWeights::Packed(_) => None,
        });
        Ok(linears.collect())
    }
}

impl LmHeadWeights {
    /// `sum` + U z, f32.
    fn forward(&self, z: &Tensor, sum: Option<Tensor>) -> Result<Tensor> {
        let part = match self {
            Self::Packed(weights) => match &sum {
                // The kernels add in the dtype they compute in.
                Some(sum) if z.dtype() == DType::F32 => {
                    let (z, sum) = (std::slice::from_ref(z), std::slice::from_ref(sum));
                    let rows = ChainRows::same(1, z[0].dim(0)?);
                    return Ok(chain_linear_add(z, &rows, weights, sum)?.remove(0));
                }
                _ => packed_forward(weights, z)?,
            },
            Self::Host(linear) => linear_forward(linear, z)?,
        };
        let part = part.to_dtype(DType::F32)?;
        sum.map_or(Ok(part.clone()), |sum| sum + part)
    }
}
