//! A batch of padded sequences and the answer tokens to predict in them.

use anyhow::Result;
use candle_core::{Device, Tensor};

use crate::chain_model::ChainModel;
use crate::tokenizer::Encoded;

/// Sequences padded to the longest of them.
pub struct Batch {
    /// Token ids `[sequences, tokens]`, u32.
    tokens: Tensor,
    /// Row indices into the flattened hidden states: those that predict a token of an answer; u32.
    rows: Tensor,
    /// The token id that each of these rows must predict; u32.
    targets: Tensor,
}

impl Batch {
    /// Pads with id 0, which has no effect on earlier positions because attention is causal.
    pub fn new(sequences: &[Encoded]) -> Result<Self> {
        let length = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
        let (mut tokens, mut rows, mut targets) = (vec![], vec![], vec![]);
        for (at, sequence) in sequences.iter().enumerate() {
            for next in 1..sequence.ids.len() {
                if sequence.is_answer[next] {
                    rows.push((at * length + next - 1) as u32);
                    targets.push(sequence.ids[next]);
                }
            }
            tokens.extend(&sequence.ids);
            tokens.resize((at + 1) * length, 0);
        }
        Ok(Self {
            tokens: Tensor::from_vec(tokens, (sequences.len(), length), &Device::Cpu)?,
            rows: Tensor::new(rows, &Device::Cpu)?,
            targets: Tensor::new(targets, &Device::Cpu)?,
        })
    }

    /// The number of tokens to predict.
    pub fn predicted(&self) -> usize {
        self.targets.elem_count()
    }

    /// The number of tokens, including padding.
    pub fn tokens(&self) -> usize {
        self.tokens.elem_count()
    }

    /// The logits at 1, 2, .. n chains of the rows that predict a token of an answer, each `[rows, vocab]`.
    pub fn logits(&self, model: &ChainModel) -> Result<Vec<Tensor>> {
        let z = model.forward(&self.tokens)?;
        let answers = z.iter().map(|z| z.index_select(&self.rows, 0));
        Ok(model.logits(&answers.collect::<Result<Vec<_>, _>>()?)?)
    }

    /// The expected token id for each row of [`logits`](Self::logits), u32.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }
}
