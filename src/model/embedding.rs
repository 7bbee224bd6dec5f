//! The embedding (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{ChainWeights, Unpacked};

use super::representation::Representation;
use super::step::Step;

/// `x_i = E_i[token]`.
pub struct ChainEmbedding {
    /// Per chain `[vocab_size, hidden_i]`.
    pub(super) tables: Vec<Table>,
}

/// E_i.
pub(super) enum Table {
    /// `[vocab_size, hidden_i]`.
    Rows(Tensor),
    /// Shared with the LM head (`tie_word_embeddings`).
    Tied(Arc<ChainWeights>),
}

impl ChainEmbedding {
    /// From the tables of every chain, chain 1 first.
    pub fn new(tables: Vec<Tensor>) -> Self {
        Self { tables: tables.into_iter().map(Table::Rows).collect() }
    }

    /// The embeddings of the step's tokens, in the dtype the model computes in.
    pub fn forward(&self, step: &Step) -> Result<Representation> {
        let chains = self.tables.iter().take(step.active.chain_count()).enumerate();
        let rows = chains.map(|(i, table)| {
            let tokens = step.tokens_of_chain(i);
            match table {
                Table::Tied(weights) => weights.rows(0, &tokens),
                Table::Rows(table) => {
                    let rows = table.index_select(&Tensor::new(tokens, table.device())?, 0)?;
                    rows.to_dtype(activation_dtype(table))
                }
            }
        });
        Ok(Representation::new(rows.collect::<Result<_>>()?))
    }

    /// The tables, chain by chain, as they were loaded.
    pub fn tables(&self) -> Result<Vec<Tensor>> {
        self.tables.iter().map(Table::unpacked).collect()
    }
}

impl Table {
    /// As it was loaded.
    pub(super) fn unpacked(&self) -> Result<Tensor> {
        match self {
            Self::Rows(table) => Ok(table.clone()),
            Self::Tied(weights) => match weights.unpack()? {
                Unpacked::Floats(mut table) => Ok(table.remove(0).0),
                Unpacked::Quantized(table) => table[0].0.dequantize(&Device::Cpu),
            },
        }
    }
}

/// The dtype of activations in a model with weights like these.
pub(super) fn activation_dtype(weights: &Tensor) -> DType {
    colm_kernels::activation_dtype(weights.device(), weights.dtype())
}
