//! The head: the logits at k chains are the sum over i <= k of U_i z_i (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::{chain_linear_add, ChainRows, ChainWeights, Unpacked};
use mistralrs_quant::{linear_b, QuantMethod, QuantizedConfig, ShardedVarBuilder};

use super::active_rows::ActiveRows;
use super::embedding::{ChainEmbedding, Table};
use super::linear::{
    host_linears, linear_forward, packed, packed_forward, unquantized, HostLinears,
};
use super::representation::Representation;

/// Per chain U_i, `[vocab_size, hidden_i]`.
pub struct ChainHead {
    chains: Vec<HeadWeights>,
}

/// U_i, held as in [`super::linear::ChainLinear`].
enum HeadWeights {
    Packed(Arc<ChainWeights>),
    Host(Arc<dyn QuantMethod>),
}

impl ChainHead {
    /// Loads the first `k` chains. `vb` is at the head's name. Weights that the host has not quantized are packed if
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
            if let HeadWeights::Packed(weights) = weights {
                *table = Table::Tied(weights.clone());
            }
        }
        Ok(head)
    }

    fn of_linears(linears: HostLinears, pack: bool) -> Result<Self> {
        let chains = match unquantized(&linears)? {
            Some(weights) if pack => {
                let packed = weights.into_iter().map(|weights| ChainWeights::pack(&[weights]));
                packed.map(|weights| Ok(HeadWeights::Packed(Arc::new(weights?)))).collect()
            }
            _ => Ok(linears.into_iter().map(HeadWeights::Host).collect()),
        };
        chains.map(|chains: Vec<_>| Self { chains })
    }

    /// As [`super::linear::ChainLinear::pack_quantized`].
    pub fn pack_quantized(&mut self) -> Result<()> {
        for weights in &mut self.chains {
            if let HeadWeights::Host(linear) = weights {
                if let Some(packed) = packed(std::slice::from_ref(linear))? {
                    *weights = HeadWeights::Packed(Arc::new(packed));
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
            if let HeadWeights::Packed(packed) = weights {
                *weights = HeadWeights::Host(host_linears(packed.unpack()?)?.remove(0));
            }
        }
        let linears = self.chains.iter_mut().filter_map(|weights| match weights {
            HeadWeights::Host(linear) => Some(linear),
            HeadWeights::Packed(_) => None,
        });
        Ok(linears.collect())
    }
}

impl HeadWeights {
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
