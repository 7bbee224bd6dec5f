//! The LM head, the output layer: the logits at k chains are the sum over i <= k of U_i z_i (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_linear_add, ChainRows, ChainWeights, MatmulPrecision, Unpacked};
use mistralrs_quant::QuantMethod;

use super::active_rows::ActiveRows;
use super::embedding::{ChainEmbedding, Table};
use super::host_linears::{host_linears, linear_forward, pack_linears, WeightAndBias};
use super::linear::{pack, packed_forward};
use super::representation::Representation;
use super::weight_source::{LoadedLinear, Packing};

/// Per chain U_i, `[vocab_size, hidden_i]`.
pub struct LmHead {
    chains: Vec<LmHeadWeights>,
    vocab_size: usize,
}

/// U_i, held as in [`super::linear::ChainLinear`].
enum LmHeadWeights {
    Packed(Arc<ChainWeights>),
    Host(Arc<dyn QuantMethod>),
}

impl LmHead {
    /// From the weights of every chain, chain 1 first. Packed weights multiply activations at `precision`.
    ///
    /// # Errors
    /// If a shape or dtype is not supported.
    pub fn new(
        loaded: Vec<LoadedLinear>,
        vocab_size: usize,
        packing: Packing,
        precision: MatmulPrecision,
    ) -> Result<Self> {
        let chains = loaded.into_iter().map(|linear| match linear {
            LoadedLinear::Floats(weight, bias) => {
                LmHeadWeights::new((weight, bias), packing, precision)
            }
            LoadedLinear::Host(linear) => Ok(LmHeadWeights::Host(linear)),
        });
        chains.collect::<Result<_>>().map(|chains| Self { chains, vocab_size })
    }

    /// U_i = E_i (`tie_word_embeddings`). Packed floats are shared with the embedding; quantized weights are a copy.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn tied(
        embedding: &mut ChainEmbedding,
        vocab_size: usize,
        packing: Packing,
        precision: MatmulPrecision,
    ) -> Result<Self> {
        let mut chains = Vec::with_capacity(embedding.tables.len());
        for table in &mut embedding.tables {
            let head = LmHeadWeights::new((table.unpacked()?, None), packing, precision)?;
            if let (LmHeadWeights::Packed(weights), Packing::AsLoaded) = (&head, packing) {
                *table = Table::Tied(weights.clone());
            }
            chains.push(head);
        }
        Ok(Self { chains, vocab_size })
    }

    /// As [`super::linear::ChainLinear::pack_quantized`].
    pub fn pack_quantized(&mut self, precision: MatmulPrecision) -> Result<()> {
        for weights in &mut self.chains {
            if let LmHeadWeights::Host(linear) = weights {
                if let Some(packed) = pack_linears(std::slice::from_ref(linear), precision)? {
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
        match logits {
            Some(logits) => Ok(logits),
            None => Tensor::zeros((0, self.vocab_size), DType::F32, &Device::Cpu),
        }
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
    fn new(weights: WeightAndBias, packing: Packing, precision: MatmulPrecision) -> Result<Self> {
        if packing == Packing::Unpacked {
            return Ok(Self::Host(host_linears(Unpacked::Floats(vec![weights]))?.remove(0)));
        }
        let dtype = packing.quantized_type(weights.0.dim(1)?);
        let packed = pack(&[weights], dtype, precision)?;
        Ok(Self::Packed(Arc::new(packed)))
    }

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
