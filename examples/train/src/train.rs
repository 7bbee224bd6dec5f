//! The training loop: batches, the joint loss over all chain counts, the schedule.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{bail, Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{VarBuilder, VarMap};
use colm_checkpoint::ColmConfig;

use crate::data::{Generator, Part, Stage};
use crate::model::DenseColm;
use crate::optimizer::AdamW;
use crate::parameters;
use crate::tokenizer::{Chat, Encoded};

/// Everything that decides the outcome, besides the model's config.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Seeds parameters and data.
    pub seed: u64,
    /// Optimizer steps in all.
    pub steps: usize,
    /// The step from which on the stage is [`Stage::Lists`]; [`Stage::Numbers`] before.
    pub lists_from: usize,
    /// The step from which on the stage is [`Stage::Tables`].
    pub tables_from: usize,
    /// Conversations per step.
    pub batch: usize,
    /// The learning rate at some steps, in order; straight lines between them.
    pub rates: Vec<(usize, f64)>,
    /// p at some steps, in order, straight lines between them: the loss of the model at k chains
    /// counts in proportion to k^p. At 0 all count the same; above, the last refinement of the
    /// larger models is held back less by the smaller.
    pub focus: Vec<(usize, f64)>,
    /// AdamW's decay of matrices, relative to the learning rate.
    pub weight_decay: f64,
    /// The largest norm of all gradients together.
    pub clip: f64,
}

impl Recipe {
    fn stage_at(&self, step: usize) -> Stage {
        if step < self.lists_from {
            Stage::Numbers
        } else if step < self.tables_from {
            Stage::Lists
        } else {
            Stage::Tables
        }
    }

    /// The learning rate of `step` (from 0).
    pub fn rate_at(&self, step: usize) -> f64 {
        between(&self.rates, step)
    }

    /// What the losses of the models at 1, 2, .. n chains count at `step`; in all n.
    pub fn loss_weights(&self, step: usize, chains: usize) -> Vec<f64> {
        let focus = between(&self.focus, step);
        let powers: Vec<f64> = (1..=chains).map(|k| (k as f64).powf(focus)).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| power * chains as f64 / sum).collect()
    }
}

/// The height at `step` of the line through `points`; level before the first and after the last.
fn between(points: &[(usize, f64)], step: usize) -> f64 {
    let next = points.partition_point(|&(at, _)| at <= step);
    match (next.checked_sub(1).and_then(|last| points.get(last)), points.get(next)) {
        (Some(&(from, low)), Some(&(to, high))) => {
            low + (high - low) * (step - from) as f64 / (to - from) as f64
        }
        (Some(&(_, height)), None) | (None, Some(&(_, height))) => height,
        (None, None) => 0.,
    }
}

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

    /// Per chain count, the mean cross-entropy over the answers' tokens, a scalar.
    pub fn losses(&self, model: &DenseColm) -> Result<Vec<Tensor>> {
        let hidden = model.forward(&self.tokens)?.flatten_to(1)?.index_select(&self.rows, 0)?;
        let logits = model.logits_upto(&hidden, model.config().chains.count())?;
        logits.iter().map(|logits| Ok(cross_entropy(logits, &self.targets)?)).collect()
    }
}

/// What one step did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Mean cross-entropy per answer token, at 1 to n chains.
    pub losses: Vec<f64>,
    /// The norm of the gradients before the clip.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f64,
}

/// A model in training.
pub struct Trainer {
    recipe: Recipe,
    chat: Chat,
    variables: VarMap,
    model: DenseColm,
    optimizer: AdamW,
    step: usize,
    threads: usize,
}

/// A step's batch is cut into this many parts by length; a fixed number, so that the sums do not
/// depend on the machine.
const PARTS: usize = 4;

impl Trainer {
    /// A fresh model. `threads` work on the parts of a batch; the result does not depend on it.
    pub fn new(config: &ColmConfig, chat: Chat, recipe: Recipe, threads: usize) -> Result<Self> {
        let variables = parameters::init(config, recipe.seed)?;
        let weights = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let model = DenseColm::new(config, weights)?;
        let optimizer = AdamW::new(&variables, recipe.weight_decay, recipe.clip)?;
        let threads = threads.clamp(1, PARTS);
        Ok(Self { recipe, chat, variables, model, optimizer, step: 0, threads })
    }

    /// What it is trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The model as it stands.
    pub fn model(&self) -> &DenseColm {
        &self.model
    }

    /// Its parameters, by their names in the dense layout.
    pub fn variables(&self) -> &VarMap {
        &self.variables
    }

    /// The tokenizer.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The conversations of step `step`, as parts of similar length, longest first.
    fn parts(&self, step: usize) -> Result<Vec<Batch>> {
        let stage = self.recipe.stage_at(step);
        let mut generator = Generator::new(self.recipe.seed, step as u64, Part::Train, stage);
        let mut sequences = (0..self.recipe.batch)
            .map(|_| self.chat.encode(&generator.conversation()))
            .collect::<Result<Vec<_>>>()?;
        sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.ids.len()));
        sequences.chunks(self.recipe.batch.div_ceil(PARTS)).map(Batch::new).collect()
    }

    /// One optimizer step on the weighted sum of the losses of all chain counts.
    pub fn step(&mut self) -> Result<Report> {
        let parts = self.parts(self.step)?;
        let predicted: usize = parts.iter().map(Batch::predicted).sum();
        let variables: Vec<&Tensor> =
            self.optimizer.variables().map(|variable| variable.as_tensor()).collect();
        let weights = self.recipe.loss_weights(self.step, self.model.config().chains.count());
        let weights = Tensor::new(weights, &Device::Cpu)?.to_dtype(DType::F32)?;
        let results = in_parallel(self.threads, &parts, |part| {
            let share = part.predicted() as f64 / predicted as f64;
            let losses = part.losses(&self.model)?;
            let stacked = (Tensor::stack(&losses, 0)? * share)?;
            let mut gradients = (&stacked * &weights)?.sum_all()?.backward()?;
            let gradients: Vec<Tensor> = variables
                .iter()
                .map(|variable| match gradients.remove(variable) {
                    Some(gradient) => Ok(gradient.detach()),
                    None => Ok(variable.zeros_like()?),
                })
                .collect::<Result<_>>()?;
            Ok((stacked.to_vec1::<f32>()?, gradients))
        })?;

        let mut losses = vec![0.; self.model.config().chains.count()];
        let mut sums: Option<Vec<Tensor>> = None;
        for (part_losses, gradients) in results {
            for (loss, part) in losses.iter_mut().zip(part_losses) {
                *loss += f64::from(part);
            }
            sums = Some(match sums {
                None => gradients,
                Some(sums) => {
                    let both = sums.iter().zip(&gradients);
                    both.map(|(sum, gradient)| Ok((sum + gradient)?)).collect::<Result<_>>()?
                }
            });
        }
        if losses.iter().any(|loss| !loss.is_finite()) {
            bail!("step {}: the loss is {losses:?}; try a lower learning rate", self.step);
        }
        let rate = self.recipe.rate_at(self.step);
        let gradients = sums.context("a batch without conversations")?;
        let gradient_norm = self.optimizer.step(&gradients, rate)?;
        self.step += 1;
        Ok(Report { losses, gradient_norm, rate })
    }

    /// Writes all that [`resume`](Self::resume) needs to `path`.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        let mut state = self.optimizer.state();
        state.insert(STEP.into(), Tensor::new(&[self.step as i64], &Device::Cpu)?);
        // Written beside and renamed, so that an interruption leaves the older state whole.
        let unfinished = path.with_extension("unfinished");
        candle_core::safetensors::save(&state, &unfinished)
            .with_context(|| format!("writing {}", unfinished.display()))?;
        std::fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Goes on where [`save_state`](Self::save_state) left off.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let mut read = || -> Result<()> {
            let state = candle_core::safetensors::load(path, &Device::Cpu)?;
            let step = state.get(STEP).context("no step number in it")?.to_vec1::<i64>()?;
            let step = usize::try_from(*step.first().context("no step number in it")?)?;
            self.optimizer.restore(&state, step)?;
            self.step = step;
            Ok(())
        };
        read().with_context(|| format!("resuming from {}", path.display()))
    }
}

/// The entry of a saved state that holds the number of steps done.
const STEP: &str = "step";

/// `work` on every item, by `threads` threads; results in the items' order.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let queue = Mutex::new(items.iter().enumerate());
    let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    let worker = || {
        let mut done = Vec::new();
        while let Some((at, item)) = next() {
            done.push((at, work(item)));
        }
        done
    };
    let mut results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect::<Vec<_>>()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
