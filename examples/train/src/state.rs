//! The state of an unfinished training on disk: variables, AdamW's moments, and whose they are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{ensure, Context, Result};
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::{json, Value};

use crate::train::Trainer;

/// The entry of a saved state that holds the number of steps done.
const STEP: &str = "step";
/// The metadata that tells what training it is of.
const TRAINING: &str = "training";

impl Trainer {
    /// Writes all that [`resume`](Self::resume) needs to `path`.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        let mut state: BTreeMap<String, Tensor> = self.optimizer.state().into_iter().collect();
        state.insert(STEP.into(), Tensor::new(&[self.step as i64], &Device::Cpu)?);
        let metadata = HashMap::from([(TRAINING.to_string(), self.identity()?.to_string())]);
        // Written beside and renamed, so that an interruption leaves the older state whole.
        let unfinished = path.with_extension("unfinished");
        safetensors::serialize_to_file(&state, Some(metadata), &unfinished)
            .with_context(|| format!("writing {}", unfinished.display()))?;
        std::fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Goes on where [`save_state`](Self::save_state) left off: every later step is, to the bit,
    /// that of a training never stopped. A state of another training is refused.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let mut read = || -> Result<()> {
            let bytes = std::fs::read(path)?;
            let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
            let training = metadata.metadata().as_ref().and_then(|entries| entries.get(TRAINING));
            let training = training.context("it is no state of a training: no `training` in it")?;
            same(&serde_json::from_str(training)?, &self.identity()?)?;
            let state = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
            let step = state.get(STEP).context("no step number in it")?.to_vec1::<i64>()?;
            let step = usize::try_from(*step.first().context("no step number in it")?)?;
            self.optimizer.restore(&state, step)?;
            self.step = step;
            Ok(())
        };
        read().with_context(|| format!("resuming from {}", path.display()))
    }

    /// What decides the outcome.
    fn identity(&self) -> Result<Value> {
        let tokenizer = self.chat.json()?;
        let hash = tokenizer.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Ok(json!({
            "recipe": self.recipe,
            "config": self.config().file,
            "first weights": format!("{:016x}", self.start),
            "tokenizer": format!("{hash:016x}"),
        }))
    }
}

/// Refuses a state whose identity is not that of this training, and says in what they differ.
fn same(saved: &Value, own: &Value) -> Result<()> {
    for part in ["config", "recipe"] {
        let fields = [saved, own].map(|identity| identity[part].as_object());
        for field in fields.iter().flatten().flat_map(|object| object.keys()) {
            let [saved, own] = [saved, own].map(|identity| &identity[part][field]);
            ensure!(saved == own, "it is of another training: {field} = {saved}, here {own}");
        }
    }
    for part in ["first weights", "tokenizer"] {
        ensure!(saved[part] == own[part], "it is of another training: not the same {part}");
    }
    Ok(())
}
