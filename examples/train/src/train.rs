//! The training step: a batch, its losses at every k, gradients, AdamW.

use anyhow::{bail, ensure, Context, Result};
use candle_core::{Tensor, Var};
use candle_nn::loss::cross_entropy;
use colm_checkpoint::ColmConfig;

use crate::batch::Batch;
use crate::chain_model::{Blocks, ChainModel};
use crate::cost::Cost;
use crate::data::{Generator, Mix, Part};
use crate::optimizer::AdamW;
use crate::parallel::in_parallel;
use crate::recipe::Recipe;
use crate::tokenizer::Chat;
use crate::weights::Weights;

/// What one step did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Mean cross-entropy per answer token, at 1 to n chains, before the step.
    pub losses: Vec<f64>,
    /// The norm of the gradients before the clip.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f64,
}

/// A model in training.
pub struct Trainer {
    pub(crate) recipe: Recipe,
    pub(crate) chat: Chat,
    pub(crate) model: ChainModel,
    /// The frozen blocks as they were, the others as variables.
    blocks: Blocks,
    pub(crate) optimizer: AdamW,
    pub(crate) step: usize,
    threads: usize,
    /// Tells the weights that the training began with from others.
    pub(crate) start: u64,
}

/// Conversations that go through the model together: a step's batch is sorted by length and cut into
/// such parts, so that little is padding.
const PART: usize = 8;

impl Trainer {
    /// Starts from `weights`. `threads` work on the parts of a batch; the result does not depend on
    /// how many.
    pub fn new(weights: Weights, chat: Chat, recipe: Recipe, threads: usize) -> Result<Self> {
        let start = weights.fingerprint()?;
        let Weights { config, mut blocks } = weights;
        recipe.check(config.chains.count())?;
        ensure!(
            chat.vocab_size() <= config.file.vocab_size,
            "the tokenizer has {} ids, the model's vocab_size is {}; expected at least as many",
            chat.vocab_size(),
            config.file.vocab_size
        );
        let mut variables = Vec::new();
        for chain in recipe.frozen..config.chains.count() {
            for name in config.tensors_of(chain).map(|tensor| tensor.name()) {
                let block = blocks.get(&name).with_context(|| format!("no tensor {name}"))?;
                let variable = Var::from_tensor(block)?;
                blocks.insert(name.clone(), variable.as_tensor().clone());
                variables.push((name, variable));
            }
        }
        let optimizer = AdamW::new(variables, recipe.weight_decay, recipe.clip)?;
        let model = ChainModel::new(&config, &blocks)?;
        Ok(Self { recipe, chat, model, blocks, optimizer, step: 0, threads, start })
    }

    /// How it is trained.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The model as it stands.
    pub fn model(&self) -> &ChainModel {
        &self.model
    }

    /// The model's config.
    pub fn config(&self) -> &ColmConfig {
        self.model.config()
    }

    /// A copy of the weights as they stand.
    pub fn weights(&self) -> Result<Weights> {
        let copies =
            self.blocks.iter().map(|(name, block)| Ok((name.clone(), block.copy()?.detach())));
        Ok(Weights { config: self.config().clone(), blocks: copies.collect::<Result<_>>()? })
    }

    /// The tokenizer.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The conversations of `step`, as parts of similar length, longest first.
    pub fn batch(&self, step: usize) -> Result<Vec<Batch>> {
        let mix = Mix::of(&self.recipe.tasks);
        let mut generator = Generator::new(self.recipe.seed, step as u64, Part::Train, mix);
        let mut sequences = (0..self.recipe.batch)
            .map(|_| self.chat.encode(&generator.conversation()))
            .collect::<Result<Vec<_>>>()?;
        sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.ids.len()));
        sequences.chunks(PART).map(Batch::new).collect()
    }

    /// The multiply-adds of a step on `batch`.
    pub fn multiply_adds(&self, batch: &[Batch]) -> u64 {
        let cost = Cost::of_training(self.config(), self.recipe.frozen);
        batch.iter().map(|part| cost.of_batch(part)).sum()
    }

    /// One optimizer step.
    pub fn step(&mut self) -> Result<Report> {
        let parts = self.batch(self.step)?;
        let predicted: usize = parts.iter().map(Batch::predicted).sum();
        let results = in_parallel(self.threads, &parts, |part| {
            self.gradients(part, part.predicted() as f64 / predicted as f64)
        })?;
        let mut results = results.into_iter();
        let (mut losses, mut gradients) = results.next().context("a batch of no conversations")?;
        for (part_losses, part_gradients) in results {
            for (loss, part) in losses.iter_mut().zip(part_losses) {
                *loss += part;
            }
            for (sum, part) in gradients.iter_mut().zip(part_gradients) {
                *sum = (&*sum + part)?;
            }
        }
        if losses.iter().any(|loss| !loss.is_finite()) {
            bail!("step {}: the loss is {losses:?}; try a lower learning rate", self.step);
        }
        let rate = self.recipe.rate_at(self.step);
        let gradient_norm = self.optimizer.step(&gradients, rate)?;
        self.step += 1;
        Ok(Report { losses, gradient_norm, rate })
    }

    /// Losses at 1 to n chains and gradients, in the optimizer's order, of a part that makes up
    /// `share` of the batch.
    fn gradients(&self, part: &Batch, share: f64) -> Result<(Vec<f64>, Vec<Tensor>)> {
        let logits = part.logits(&self.model)?;
        let weights = self.recipe.loss_weights(logits.len());
        let mut losses = Vec::new();
        let mut terms = Vec::new();
        for (logits, weight) in logits.iter().zip(weights) {
            // A loss that counts nothing is only reported.
            let logits = if weight == 0. { logits.detach() } else { logits.clone() };
            let loss = (cross_entropy(&logits, part.targets())? * share)?;
            losses.push(f64::from(loss.to_scalar::<f32>()?));
            terms.push((loss * weight)?);
        }
        let mut found = Tensor::stack(&terms, 0)?.sum_all()?.backward()?;
        let gradients = self.optimizer.variables().map(|variable| match found.remove(variable) {
            Some(gradient) => Ok(gradient.detach()),
            None => Ok(variable.zeros_like()?.detach()),
        });
        Ok((losses, gradients.collect::<Result<_>>()?))
    }
}
