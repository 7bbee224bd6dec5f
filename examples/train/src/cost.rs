//! What a training step costs in multiply-adds of its matrix products with weights.

use colm_checkpoint::{ColmConfig, Part};

use crate::batch::Batch;

/// Multiply-adds of the layers' linear maps and of the head. Attention scores, norms and the
/// optimizer are left out: at these sizes they are a few percent, and about as many for each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of one token through all layers.
    pub per_token: u64,
    /// Of one token that is predicted: its share of the head.
    pub per_prediction: u64,
}

impl Cost {
    /// Of training `config` with its first `frozen` chains fixed: a multiply-add per weight forward;
    /// twice as many backward, one for the gradient of the input and one for that of the weight,
    /// but none through a frozen chain.
    pub fn of_training(config: &ColmConfig, frozen: usize) -> Self {
        Self::of(config, |chain| if chain < frozen { 1 } else { 3 })
    }

    fn of(config: &ColmConfig, passes: impl Fn(usize) -> u64) -> Self {
        let mut cost = Self { per_token: 0, per_prediction: 0 };
        for tensor in config.tensors(config.all_chains()) {
            let weights = tensor.shape().iter().product::<usize>() as u64;
            match tensor.part {
                Part::Weight { .. } => cost.per_token += passes(tensor.chain) * weights,
                Part::Head => cost.per_prediction += passes(tensor.chain) * weights,
                // Tied, the embedding is the head as well.
                Part::Embedding if config.file.tie_word_embeddings => {
                    cost.per_prediction += passes(tensor.chain) * weights;
                }
                _ => {}
            }
        }
        cost
    }

    /// Of a batch, padding included.
    pub fn of_batch(self, batch: &Batch) -> u64 {
        self.per_token * batch.tokens() as u64 + self.per_prediction * batch.predicted() as u64
    }
}
