//! The embedding (docs/spec.md#layers).

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::{ChainWeights, Unpacked};
use mistralrs_quant::ShardedVarBuilder;

use super::chain_tensors::{computed_in, load_chains};
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
    /// Shared with the head (`tie_word_embeddings`).
    Tied(Arc<ChainWeights>),
}

impl ChainEmbedding {
    /// Loads the tables of the first `k` chains. `vb` is at the embedding's name.
    pub fn load(config: &ColmConfig, k: usize, vb: &ShardedVarBuilder) -> Result<Self> {
        let vocab = config.file.vocab_size;
        let tables = load_chains(&config.hidden, k, vb, |width| vec![vocab, width])?;
        Ok(Self { tables: tables.into_iter().map(Table::Rows).collect() })
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
