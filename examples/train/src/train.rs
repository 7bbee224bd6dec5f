//! The training step: batch, losses at every k, gradients, AdamW.

use anyhow::{bail, ensure, Context, Result};
use colm_checkpoint::ColmConfig;

use crate::batch::Batch;
use crate::chain_model::{Blocks, ChainModel};
use crate::cost::Cost;
use crate::data::{DataSplit, Generator, Mix};
use crate::gradients::{gradients, trained_variables};
use crate::optimizer::AdamW;
use crate::parallel::in_parallel;
use crate::recipe::Recipe;
use crate::tokenizer::ChatTokenizer;
use crate::weights::Weights;

/// The result of a training step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The mean cross-entropy per answer token at 1 to n chains, before the update.
    pub losses: Vec<f64>,
    /// The global gradient norm before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
}

/// A training run.
pub struct Trainer {
    pub(crate) recipe: Recipe,
    pub(crate) chat: ChatTokenizer,
    pub(crate) model: ChainModel,
    /// All blocks; the trained ones are variables.
    blocks: Blocks,
    pub(crate) optimizer: AdamW,
    pub(crate) step: usize,
    threads: usize,
    /// A fingerprint of the initial weights.
    pub(crate) initial_weights: u64,
}

/// The number of conversations in a micro-batch. The batch of a step is sorted by length and cut into micro-batches, so
/// that there is little padding.
const MICRO_BATCH: usize = 8;

impl Trainer {
    /// Starts from `weights`. Micro-batches run on `threads` threads; the result does not depend on the number of
    /// threads.
    pub fn new(
        weights: Weights,
        chat: ChatTokenizer,
        recipe: Recipe,
        threads: usize,
    ) -> Result<Self> {
        let initial_weights = weights.fingerprint()?;
        let Weights { config, mut blocks } = weights;
        recipe.check(&config)?;
        ensure!(
            chat.vocab_size() <= config.file.vocab_size,
            "the tokenizer has {} ids, the model's vocab_size is {}; expected at least as many",
            chat.vocab_size(),
            config.file.vocab_size
        );
        let variables = trained_variables(&config, &recipe, &mut blocks)?;
        let optimizer = AdamW::new(variables, recipe.weight_decay, recipe.max_gradient_norm)?;
        let model = ChainModel::new(&config, &blocks)?;
        Ok(Self { recipe, chat, model, blocks, optimizer, step: 0, threads, initial_weights })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The model with the current weights.
    pub fn model(&self) -> &ChainModel {
        &self.model
    }

    /// The model's config.
    pub fn config(&self) -> &ColmConfig {
        self.model.config()
    }

    /// A copy of the current weights.
    pub fn weights(&self) -> Result<Weights> {
        let copies =
            self.blocks.iter().map(|(name, block)| Ok((name.clone(), block.copy()?.detach())));
        Ok(Weights { config: self.config().clone(), blocks: copies.collect::<Result<_>>()? })
    }

    /// The tokenizer.
    pub fn chat(&self) -> &ChatTokenizer {
        &self.chat
    }

    /// The number of completed steps.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The conversations of `step` as micro-batches of similar lengths, longest first.
    pub fn batch(&self, step: usize) -> Result<Vec<Batch>> {
        let mix = Mix::of(&self.recipe.tasks);
        let mut generator = Generator::new(self.recipe.seed, step as u64, DataSplit::Train, mix);
        let mut sequences = (0..self.recipe.batch_size)
            .map(|_| self.chat.encode(&generator.conversation()))
            .collect::<Result<Vec<_>>>()?;
        sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.ids.len()));
        sequences.chunks(MICRO_BATCH).map(Batch::new).collect()
    }

    /// The multiply-adds of a step on `batch`.
    pub fn multiply_adds(&self, batch: &[Batch]) -> u64 {
        let cost = Cost::of_training(self.config(), &self.recipe);
        batch.iter().map(|micro_batch| cost.of_batch(micro_batch)).sum()
    }

    /// Runs one optimizer step.
    pub fn step(&mut self) -> Result<StepReport> {
        let batch = self.batch(self.step)?;
        let predicted: usize = batch.iter().map(Batch::predicted).sum();
        let weights = self.recipe.loss_weights(self.config().chains.count());
        let results = in_parallel(self.threads, &batch, |micro_batch| {
            let share = micro_batch.predicted() as f64 / predicted as f64;
            gradients(&self.model, self.optimizer.variables(), micro_batch, &weights, share)
        })?;
        let mut results = results.into_iter();
        let (mut losses, mut gradients) = results.next().context("the batch is empty")?;
        for (more_losses, more_gradients) in results {
            for (sum, loss) in losses.iter_mut().zip(more_losses) {
                *sum += loss;
            }
            for (sum, gradient) in gradients.iter_mut().zip(more_gradients) {
                *sum = (&*sum + gradient)?;
            }
        }
        if losses.iter().any(|loss| !loss.is_finite()) {
            bail!("step {}: the loss is {losses:?}; try a lower learning rate", self.step);
        }
        let learning_rate = self.recipe.learning_rate_at(self.step);
        let gradient_norm = self.optimizer.step(&gradients, learning_rate)?;
        self.step += 1;
        Ok(StepReport { losses, gradient_norm, learning_rate })
    }
}
