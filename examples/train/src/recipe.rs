//! The training recipe. Together with initial weights and tokenizer it determines the result.

use anyhow::{ensure, Result};
use colm_checkpoint::{ChainTensor, ColmConfig, TensorId};
use serde::{Deserialize, Serialize};

use crate::data::Task;

/// The training objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The weighted sum of the cross-entropies at 1, 2, .. n chains. Only the proportions of the weights matter:
    /// [`Recipe::loss_weights`] scales them.
    Joint(Vec<f64>),
    /// The cross-entropy of the full model.
    Last,
}

impl Loss {
    /// The joint loss with weight k for the model at k chains.
    pub fn in_proportion_to_k(chains: usize) -> Self {
        Self::Joint((1..=chains).map(|k| k as f64).collect())
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The seed of the data and of random initial weights.
    pub seed: u64,
    /// The total number of optimizer steps.
    pub steps: usize,
    /// Conversations per step.
    pub batch_size: usize,
    /// The tasks in the training data.
    pub tasks: Vec<Task>,
    /// The training objective.
    pub loss: Loss,
    /// The number of frozen chains, counted from the first.
    pub frozen: usize,
    /// Whether the backbone is frozen, that is everything but the LM heads. The LM heads of frozen chains are frozen
    /// too.
    #[serde(default)]
    pub frozen_backbone: bool,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The number of steps of linear warm-up, after which the learning rate decays to 0 as a cosine.
    pub warmup: usize,
    /// AdamW's weight decay of matrices.
    pub weight_decay: f64,
    /// Gradients are clipped to this global norm.
    pub max_gradient_norm: f64,
}

impl Recipe {
    /// Fails if the recipe cannot train a model of this config.
    pub fn check(&self, config: &ColmConfig) -> Result<()> {
        let chains = config.chains.count();
        ensure!(
            !(self.frozen_backbone && config.file.tie_word_embeddings),
            "the backbone is frozen and tie_word_embeddings = true, so the LM heads are part of it; \
             expected a model with LM heads of its own"
        );
        ensure!(
            self.frozen < chains,
            "freeze = {}: the model has {chains} chains; expected at most {}",
            self.frozen,
            chains - 1
        );
        ensure!(self.batch_size > 0, "batch_size = 0; expected at least 1 conversation per step");
        ensure!(!self.tasks.is_empty(), "expected at least one task to train on");
        ensure!(
            self.warmup < self.steps,
            "warm-up = {}; expected fewer steps than the {} in all",
            self.warmup,
            self.steps
        );
        for (name, value) in [
            ("learning rate", self.learning_rate),
            ("gradient norm", self.max_gradient_norm),
            ("weight decay", self.weight_decay),
        ] {
            let zero_is_valid = name == "weight decay";
            ensure!(
                value.is_finite() && (value > 0. || zero_is_valid && value == 0.),
                "{name} = {value}; expected a positive number"
            );
        }
        self.check_loss(chains)
    }

    fn check_loss(&self, chains: usize) -> Result<()> {
        let Loss::Joint(weights) = &self.loss else {
            return Ok(());
        };
        ensure!(
            weights.len() == chains,
            "{} loss weights; expected {chains}, one for each k",
            weights.len()
        );
        let valid = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.);
        ensure!(valid, "loss weights {weights:?}; expected no negative number");
        ensure!(
            weights[self.frozen..].iter().any(|&weight| weight > 0.),
            "loss weights {weights:?} with {} frozen chains leave nothing to learn; expected a \
             weight above 0 for some k > {}",
            self.frozen,
            self.frozen
        );
        Ok(())
    }

    /// Whether training changes `tensor`. Other tensors stay the same, bit for bit.
    pub fn trains(&self, tensor: &ChainTensor) -> bool {
        let of_backbone = tensor.id != TensorId::Head;
        tensor.chain >= self.frozen && !(self.frozen_backbone && of_backbone)
    }

    /// The learning rate of `step`, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        0.5 * self.learning_rate * (1. + (std::f64::consts::PI * progress.min(1.)).cos())
    }

    /// The weights of the losses at 1, 2, .. n chains. A weight is 0 where all chains are frozen; the weights of a
    /// joint loss sum to the number of trained chains. So without frozen chains the joint loss is n times the weighted
    /// mean, which the Python package takes; of AdamW's step only the clipping of gradients depends on this factor.
    pub fn loss_weights(&self, chains: usize) -> Vec<f64> {
        let mut weights = match &self.loss {
            Loss::Joint(weights) => weights.clone(),
            Loss::Last => (1..=chains).map(|k| f64::from(u8::from(k == chains))).collect(),
        };
        weights[..self.frozen].fill(0.);
        if matches!(self.loss, Loss::Joint(_)) {
            let (trained, sum) = ((chains - self.frozen) as f64, weights.iter().sum::<f64>());
            weights.iter_mut().for_each(|weight| *weight = *weight * trained / sum);
        }
        weights
    }
}
