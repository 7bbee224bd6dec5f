//! What decides a training's outcome, besides the weights it starts from and the tokenizer.

use anyhow::{ensure, Result};
use serde::{Deserialize, Serialize};

use crate::data::Task;

/// What is minimized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The weighted sum of the cross-entropies of the models at 1, 2, .. n chains: all of them
    /// shall be good. Only the proportions of the weights matter.
    Joint(Vec<f64>),
    /// The cross-entropy of the full model alone.
    Last,
}

impl Loss {
    /// The joint loss in which the model at k chains counts in proportion to k.
    pub fn in_proportion_to_k(chains: usize) -> Self {
        Self::Joint((1..=chains).map(|k| k as f64).collect())
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Seeds the data (and random weights, where there are such).
    pub seed: u64,
    /// Optimizer steps in all.
    pub steps: usize,
    /// Conversations per step.
    pub batch: usize,
    /// What the conversations are about.
    pub tasks: Vec<Task>,
    /// What is minimized.
    pub loss: Loss,
    /// The first so many chains stay as they are.
    pub frozen: usize,
    /// The highest learning rate.
    pub rate: f64,
    /// The learning rate rises in a straight line over so many steps, then falls to 0 as a cosine.
    pub warmup: usize,
    /// AdamW's decay of matrices, relative to the learning rate.
    pub weight_decay: f64,
    /// The largest norm of all gradients together.
    pub clip: f64,
}

impl Recipe {
    /// Refuses what cannot train a model of `chains` chains.
    pub fn check(&self, chains: usize) -> Result<()> {
        ensure!(
            self.frozen < chains,
            "freeze = {}: the model has {chains} chains; expected at most {}",
            self.frozen,
            chains - 1
        );
        ensure!(self.batch > 0, "batch = 0; expected at least 1 conversation per step");
        ensure!(!self.tasks.is_empty(), "no task is left to train on");
        ensure!(
            self.warmup < self.steps,
            "warm-up = {}; expected fewer steps than the {} in all",
            self.warmup,
            self.steps
        );
        for (name, value) in
            [("rate", self.rate), ("clip", self.clip), ("weight decay", self.weight_decay)]
        {
            let least_is_allowed = name == "weight decay";
            ensure!(
                value.is_finite() && (value > 0. || least_is_allowed && value == 0.),
                "{name} = {value}; expected a positive number"
            );
        }
        let Loss::Joint(weights) = &self.loss else {
            return Ok(());
        };
        ensure!(
            weights.len() == chains,
            "{} loss weights; expected {chains}, one for each k",
            weights.len()
        );
        let sound = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.);
        ensure!(sound, "loss weights {weights:?}; expected no negative number");
        ensure!(
            weights[self.frozen..].iter().any(|&weight| weight > 0.),
            "loss weights {weights:?} with {} frozen chains leave nothing to learn; expected a \
             weight above 0 for some k > {}",
            self.frozen,
            self.frozen
        );
        Ok(())
    }

    /// The learning rate of `step` (from 0).
    pub fn rate_at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.rate * (step + 1) as f64 / self.warmup as f64;
        }
        let part = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        0.5 * self.rate * (1. + (std::f64::consts::PI * part.min(1.)).cos())
    }

    /// What the losses at 1, 2, .. n chains count. 0 where nothing of the model is trained; the
    /// weights of a joint loss sum to the number of the others.
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
