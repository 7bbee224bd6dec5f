//! The cost of a training step in multiply-adds of matrix products with weights.

use colm_checkpoint::{ColmConfig, TensorId};

use crate::batch::Batch;
use crate::recipe::Recipe;

/// Multiply-adds of the linear layers and the head. Attention scores, norms and the optimizer are not counted: at these
/// sizes they are a few percent, and about the same for every model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of one token in all layers.
    pub per_token: u64,
    /// Of one predicted token in the head.
    pub per_prediction: u64,
}

impl Cost {
    /// The cost of training `config`. Per weight, one multiply-add in the forward pass and two in the backward pass, for
    /// the gradients of input and weight. Frozen weights have no backward pass. Heads on a frozen backbone need no
    /// gradient of their input.
    pub fn of_training(config: &ColmConfig, recipe: &Recipe) -> Self {
        let mut cost = Self { per_token: 0, per_prediction: 0 };
        for tensor in config.tensors(config.all_chains()) {
            let passes = match (recipe.trains(&tensor), recipe.frozen_backbone) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 3,
            };
            let multiply_adds = passes * tensor.shape().iter().product::<usize>() as u64;
            match tensor.id {
                TensorId::Weight { .. } => cost.per_token += multiply_adds,
                TensorId::Head => cost.per_prediction += multiply_adds,
                // A tied embedding is the head too.
                TensorId::Embedding if config.file.tie_word_embeddings => {
                    cost.per_prediction += multiply_adds;
                }
                _ => {}
            }
        }
        cost
    }

    /// The cost of a batch, including padding.
    pub fn of_batch(self, batch: &Batch) -> u64 {
        self.per_token * batch.tokens() as u64 + self.per_prediction * batch.predicted() as u64
    }
}
