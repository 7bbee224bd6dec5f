//! A batch: sequences side by side, and what is to be predicted of them.

use anyhow::Result;
use candle_core::{Device, Tensor};

use crate::chain_model::ChainModel;
use crate::tokenizer::Encoded;

/// Sequences of similar length, padded to the longest.
pub struct Batch {
    /// `[sequences, tokens]`, u32
    tokens: Tensor,
    /// Rows of the flattened hidden states that predict an answer's token; u32.
    rows: Tensor,
    /// What each of these rows must predict; u32.
    targets: Tensor,
}

impl Batch {
    /// Pads with id 0: a later position changes nothing before it.
    pub fn new(sequences: &[Encoded]) -> Result<Self> {
        let length = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
        let (mut tokens, mut rows, mut targets) = (vec![], vec![], vec![]);
        for (at, sequence) in sequences.iter().enumerate() {
            for next in 1..sequence.ids.len() {
                if sequence.answer[next] {
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

    /// The number of predicted tokens.
    pub fn predicted(&self) -> usize {
        self.targets.elem_count()
    }

    /// The number of tokens, padding included.
    pub fn tokens(&self) -> usize {
        self.tokens.elem_count()
    }

    /// The logits of the models at 1, 2, .. n chains where an answer's token is predicted.
    pub fn logits(&self, model: &ChainModel) -> Result<Vec<Tensor>> {
        let z = model.forward(&self.tokens)?;
        let answers = z.iter().map(|z| z.index_select(&self.rows, 0));
        Ok(model.logits(&answers.collect::<Result<Vec<_>, _>>()?)?)
    }

    /// The tokens that [`logits`](Self::logits) shall predict, u32.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }
}
