//! The saved state of an unfinished training run: variables, AdamW's moments, and the identity of the run.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use candle_core::{Device, Tensor};
use fnv::FnvHasher;
use safetensors::SafeTensors;
use serde_json::{json, Value};

use crate::train::Trainer;

/// The tensor with the number of completed steps.
const STEP: &str = "step";
/// The metadata entry with the identity of the run.
const TRAINING: &str = "training";

/// The file beside `path` whose name is that of `path` with `suffix` after it. A dot in the name of `path` begins no
/// extension: `lr0.001` and `lr0.002` have different files.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    match path.file_name() {
        Some(name) => {
            let mut name = name.to_owned();
            name.push(suffix);
            path.with_file_name(name)
        }
        // `.`, `..` and `/` have no name.
        None => path.join(suffix),
    }
}

impl Trainer {
    /// Saves the state for [`resume`](Self::resume) to `path`.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        let mut state: BTreeMap<String, Tensor> = self.optimizer.state().into_iter().collect();
        state.insert(STEP.into(), Tensor::new(&[self.step as i64], &Device::Cpu)?);
        let metadata = HashMap::from([(TRAINING.to_string(), self.identity()?.to_string())]);
        // Write to another file and rename it, so that an interruption leaves the old state intact.
        let unfinished = beside(path, ".unfinished");
        safetensors::serialize_to_file(&state, Some(metadata), &unfinished)
            .with_context(|| format!("writing {}", unfinished.display()))?;
        std::fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Continues from a state of [`save_state`](Self::save_state). Later steps give the same bits as an uninterrupted
    /// run. Fails if the state is of another run.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let mut read = || -> Result<()> {
            let bytes = std::fs::read(path)?;
            let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
            let training = metadata.metadata().as_ref().and_then(|entries| entries.get(TRAINING));
            let training =
                training.context("not a training state: no `training` in its metadata")?;
            check_identity(&serde_json::from_str(training)?, &self.identity()?)?;
            let state = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
            let step = state.get(STEP).context("no step number")?.to_vec1::<i64>()?;
            let step = usize::try_from(*step.first().context("no step number")?)?;
            self.optimizer.restore(&state, step)?;
            self.step = step;
            Ok(())
        };
        read().with_context(|| format!("resuming from {}", path.display()))
    }

    /// Everything that determines the result of the run.
    fn identity(&self) -> Result<Value> {
        let tokenizer = self.chat.json()?;
        let mut hasher = FnvHasher::default();
        hasher.write(tokenizer.as_bytes());
        Ok(json!({
            "recipe": self.recipe,
            "config": self.config().file,
            "initial weights": format!("{:016x}", self.initial_weights),
            "tokenizer": format!("{:016x}", hasher.finish()),
        }))
    }
}

/// Fails if the identities differ, with the first difference.
fn check_identity(saved: &Value, own: &Value) -> Result<()> {
    for part in ["config", "recipe"] {
        let fields = [saved, own].map(|identity| identity[part].as_object());
        for field in fields.iter().flatten().flat_map(|object| object.keys()) {
            let [saved, own] = [saved, own].map(|identity| &identity[part][field]);
            ensure!(saved == own, "the state is of another run: {field} = {saved}, here {own}");
        }
    }
    for part in ["initial weights", "tokenizer"] {
        ensure!(saved[part] == own[part], "the state is of another run: different {part}");
    }
    Ok(())
}
