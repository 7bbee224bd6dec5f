//! The head: logits at k chains = sum over i <= k of U_i z_i (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::{chain_linear_add, ChainRows, ChainWeights, Unpacked};
use mistralrs_quant::{linear_b, QuantMethod, QuantizedConfig, ShardedVarBuilder};

use super::layers::{ChainEmbedding, Table};
use super::linear::{as_blocks, block_forward, packed, packed_forward, unquantized, Blocks};
use super::representation::Representation;
use super::rows::ActiveRows;

/// Per chain U_i, `[vocab_size, hidden_i]`.
pub struct ChainHead {
    chains: Vec<HeadWeights>,
}

/// As in [`super::linear::ChainLinear`].
enum HeadWeights {
    Packed(Arc<ChainWeights>),
    Block(Arc<dyn QuantMethod>),
}

impl ChainHead {
    /// The blocks of the first `k` chains from `vb`, which stands at the head's name. `pack` them if
    /// the host has not quantized them.
    pub fn load(
        config: &ColmConfig,
        k: usize,
        quantization: &Option<QuantizedConfig>,
        pack: bool,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let block = |i: usize| {
            let vb = vb.pp("chains").pp(i);
            linear_b(config.hidden.of(i), config.file.vocab_size, false, quantization, vb)
        };
        Self::of_blocks((0..k).map(block).collect::<Result<_>>()?, pack)
    }

    /// U_i = E_i (`tie_word_embeddings`). Packed, they are held once for both.
    pub fn tied(embedding: &mut ChainEmbedding, pack: bool) -> Result<Self> {
        let tables = embedding.tables()?.into_iter().map(|table| (table, None));
        let tables = Unpacked::Floats(tables.collect());
        let head = Self::of_blocks(as_blocks(tables)?, pack)?;
        for (table, weights) in embedding.tables.iter_mut().zip(&head.chains) {
            if let HeadWeights::Packed(weights) = weights {
                *table = Table::Tied(weights.clone());
            }
        }
        Ok(head)
    }

    fn of_blocks(blocks: Blocks, pack: bool) -> Result<Self> {
        let chains = match unquantized(&blocks)? {
            Some(plain) if pack => {
                let packed = plain.into_iter().map(|block| ChainWeights::pack(&[block]));
                packed.map(|weights| Ok(HeadWeights::Packed(Arc::new(weights?)))).collect()
            }
            _ => Ok(blocks.into_iter().map(HeadWeights::Block).collect()),
        };
        chains.map(|chains: Vec<_>| Self { chains })
    }

    /// As [`super::linear::ChainLinear::pack_quantized`].
    pub fn pack_quantized(&mut self) -> Result<()> {
        for weights in &mut self.chains {
            if let HeadWeights::Block(block) = weights {
                if let Some(packed) = packed(std::slice::from_ref(block))? {
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
        logits.ok_or_else(|| candle_core::Error::msg("a step without rows has no logits"))
    }

    /// The blocks as the host may quantize them: what was packed is unpacked for good.
    pub fn blocks_mut(&mut self) -> Result<Vec<&mut Arc<dyn QuantMethod>>> {
        for weights in &mut self.chains {
            if let HeadWeights::Packed(packed) = weights {
                *weights = HeadWeights::Block(as_blocks(packed.unpack()?)?.remove(0));
            }
        }
        let blocks = self.chains.iter_mut().filter_map(|weights| match weights {
            HeadWeights::Block(block) => Some(block),
            HeadWeights::Packed(_) => None,
        });
        Ok(blocks.collect())
    }
}

impl HeadWeights {
    /// `sum` + U z, f32.
    fn forward(&self, z: &Tensor, sum: Option<Tensor>) -> Result<Tensor> {
        let part = match self {
            Self::Packed(weights) => match &sum {
                // What the kernels add must be in the dtype they compute in.
                Some(sum) if z.dtype() == DType::F32 => {
                    let (z, sum) = (std::slice::from_ref(z), std::slice::from_ref(sum));
                    let rows = ChainRows::same(1, z[0].dim(0)?);
                    return Ok(chain_linear_add(z, &rows, weights, sum)?.remove(0));
                }
                _ => packed_forward(weights, z)?,
            },
            Self::Block(block) => block_forward(block, z)?,
        };
        let part = part.to_dtype(DType::F32)?;
        sum.map_or(Ok(part.clone()), |sum| sum + part)
    }
}
