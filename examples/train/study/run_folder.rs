//! The state folder of the study, with runs in progress and results.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{ensure, Context, Result};
use candle_core::DType;
use colm_checkpoint::convert::{expand, Growth, Init};
use colm_checkpoint::{Chains, Layout, Source};
use colm_train::batch::Batch;
use colm_train::chain_model::ChainModel;
use colm_train::data::{Mix, Task};
use colm_train::evaluate::{evaluate, held_out_of};
use colm_train::recipe::Recipe;
use colm_train::save;
use colm_train::stale_files;
use colm_train::tokenizer::ChatTokenizer;
use colm_train::train::Trainer;
use colm_train::weights::Weights;

use crate::outcome::Outcome;
use crate::setting::{Setting, HELD_OUT, NEW_TASKS, TASKS, VOCABULARY};

/// Steps between saved states of a run.
const EVERY: usize = 100;

/// The state folder and the setting that all its runs share.
pub struct RunFolder {
    dir: PathBuf,
    pub setting: Setting,
    /// A lock for each run, by name.
    locks: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl RunFolder {
    /// Opens the folder; creates it and trains the tokenizer if it does not exist.
    pub fn open(dir: &Path, setting: Setting) -> Result<Self> {
        let folder = Self { dir: dir.into(), setting, locks: Mutex::default() };
        if !dir.join("tokenizer.json").exists() {
            std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            ChatTokenizer::train(0, 50_000, VOCABULARY, Mix::of(&all_tasks()))?.save(dir, 512)?;
        }
        Ok(folder)
    }

    /// The tokenizer.
    pub fn chat(&self) -> Result<ChatTokenizer> {
        ChatTokenizer::load(&self.dir)
    }

    /// The folder of the final checkpoint of run `name`.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The result of run `name`; `None` if it is not finished.
    pub fn outcome(&self, name: &str) -> Result<Option<Outcome>> {
        let path = self.dir.join(format!("{name}.json"));
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path)?;
        let outcome = serde_json::from_str(&text);
        outcome.map(Some).with_context(|| format!("reading {}", path.display()))
    }

    /// Trains the weights that `start` returns, unless run `name` is finished; if another thread trains them, waits for
    /// it. The checkpoint is stored in f32, so it has the exact trained weights.
    pub fn run(
        &self,
        name: &str,
        recipe: Recipe,
        start: impl FnOnce() -> Result<Weights>,
    ) -> Result<Outcome> {
        let lock = self.lock(name);
        let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = self.outcome(name)? {
            ensure!(
                outcome.recipe == recipe,
                "{} has a result of {name} with another recipe; expected an empty folder",
                self.dir.display()
            );
            return Ok(outcome);
        }
        self.train(name, recipe, start()?).with_context(|| format!("run {name}"))
    }

    /// The lock of run `name`.
    fn lock(&self, name: &str) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(name.into()).or_default().clone()
    }

    fn train(&self, name: &str, recipe: Recipe, weights: Weights) -> Result<Outcome> {
        let state = self.dir.join(format!("{name}.state.safetensors"));
        let mut trainer = Trainer::new(weights, self.chat()?, recipe, 1)?;
        if state.exists() {
            trainer.resume(&state)?;
        }
        while trainer.steps_done() < trainer.recipe().steps {
            let report = trainer.step()?;
            let done = trainer.steps_done();
            if done.is_multiple_of(EVERY) {
                trainer.save_state(&state)?;
                println!(
                    "{name}: step {done} of {}, loss {:.3?}",
                    trainer.recipe().steps,
                    report.losses
                );
            }
        }
        let dir = self.checkpoint(name);
        save::save(&dir, &trainer.weights()?, DType::F32)?;
        trainer.chat().save(&dir, trainer.config().file.max_position_embeddings)?;
        let outcome = self.measure(&trainer)?;
        println!(
            "{name}: done, held out: loss {:.3?}, exact {:.3?}",
            outcome.evaluation.of(&TASKS).loss(),
            outcome.evaluation.of(&TASKS).accuracy()
        );
        save::write_json(&self.dir, &format!("{name}.json"), &outcome)?;
        stale_files::remove(&state)?;
        Ok(outcome)
    }

    fn measure(&self, trainer: &Trainer) -> Result<Outcome> {
        let questions = held_out_of(&all_tasks(), 0, HELD_OUT);
        let (mut tokens, mut multiply_adds) = (0, 0);
        for step in 0..trainer.steps_done() {
            let batch = trainer.batch(step)?;
            tokens += batch.iter().map(Batch::tokens).sum::<usize>() as u64;
            multiply_adds += trainer.multiply_adds(&batch);
        }
        Ok(Outcome {
            recipe: trainer.recipe().clone(),
            config: trainer.config().file.clone(),
            tokens,
            multiply_adds,
            evaluation: evaluate(trainer.model(), trainer.chat(), &questions, 1)?,
        })
    }

    /// The checkpoint of run `name` with one more chain, as `colm-convert expand` writes it.
    pub fn expanded(&self, name: &str, seed: u64) -> Result<PathBuf> {
        let dir = self.dir.join(format!("{name}-expanded"));
        if !dir.exists() {
            let source = Source::open(&self.checkpoint(name))?;
            let base = source.config();
            let growth = Growth::Ratios(Chains::new(vec![1; base.chains.count() + 1])?);
            let plan =
                expand(&source, &growth, base.architecture, Init::Zero, seed, Layout::Chains)?;
            plan.write(&source, &dir, false, |_| {})?;
        }
        Ok(dir)
    }

    /// The logits at 1, 2, .. chains of the checkpoint in `dir` on held-out prompts of all tasks. They serve to compare
    /// checkpoints bit by bit.
    pub fn logits(&self, dir: &Path) -> Result<Vec<Vec<f32>>> {
        let (weights, _) = Weights::read(dir)?;
        let model = ChainModel::new(&weights.config, &weights.blocks)?;
        let chat = self.chat()?;
        let questions = held_out_of(&all_tasks(), 1, 8);
        let encoded = questions.into_iter().map(|question| {
            let turns = vec![question];
            chat.encode(&colm_train::data::Conversation { system: None, turns })
        });
        let batch = Batch::new(&encoded.collect::<Result<Vec<_>>>()?)?;
        let logits = batch.logits(&model)?;
        logits.iter().map(|logits| Ok(logits.flatten_all()?.to_vec1()?)).collect()
    }
}

/// The tasks of training and the new ones.
pub fn all_tasks() -> Vec<Task> {
    TASKS.into_iter().chain(NEW_TASKS).collect()
}
