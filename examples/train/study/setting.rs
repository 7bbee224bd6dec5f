//! The setting of the study: model sizes, tasks and recipe.

use anyhow::{Context, Result};
use colm_checkpoint::{Architecture, ColmConfig, ConfigFile};
use colm_train::card::weights_at;
use colm_train::data::Task;
use colm_train::recipe::{Loss, Recipe};

/// The tasks that every model is trained on.
pub const TASKS: [Task; 5] =
    [Task::Multiply, Task::Divide, Task::Letter, Task::Month, Task::Compare];

/// The tasks for tuning the last chain.
pub const NEW_TASKS: [Task; 2] = [Task::Weekday, Task::Remainder];

/// Held-out prompts per task (fewer where a task has fewer).
pub const HELD_OUT: usize = 150;

/// The number of chains of the full models.
pub const CHAINS: usize = 4;

/// The number of chains of the model that is grown chain by chain.
pub const GROWN: usize = 3;

/// The widths of one chain.
const HIDDEN: usize = 32;
const INTERMEDIATE: usize = 80;
const HEADS: usize = 2;
const KV_HEADS: usize = 1;
const HEAD_DIM: usize = 16;
const LAYERS: usize = 3;

/// The largest vocabulary size.
pub const VOCABULARY: usize = 512;

/// The settings from the command line.
pub struct Setting {
    /// Optimizer steps of a run.
    pub steps: usize,
}

impl Setting {
    /// CoLM or CoLM-Air of `chains` equal chains.
    pub fn chained(
        &self,
        architecture: Architecture,
        chains: usize,
        vocabulary: usize,
    ) -> Result<ColmConfig> {
        let kv_heads = match architecture {
            Architecture::Colm => KV_HEADS * chains,
            Architecture::ColmAir => KV_HEADS,
        };
        let mut other = serde_json::Map::new();
        // The standard deviation of new weights in `expand`: about that of a new model.
        other.insert("initializer_range".into(), 0.1.into());
        Ok(ColmConfig::new(ConfigFile {
            vocab_size: vocabulary,
            hidden_size: HIDDEN * chains,
            intermediate_size: INTERMEDIATE * chains,
            num_hidden_layers: LAYERS,
            num_attention_heads: HEADS * chains,
            num_key_value_heads: Some(kv_heads),
            head_dim: Some(HEAD_DIM),
            max_position_embeddings: 512,
            other,
            ..ConfigFile::new(architecture, vec![1; chains])
        })?)
    }

    /// A dense Llama with the layers and heads of the CoLM at `k` chains and nearly as many weights. Its hidden size is
    /// chosen for that; its intermediate size is 2.5 times the hidden size.
    pub fn dense(&self, k: usize, vocabulary: usize) -> Result<ColmConfig> {
        let colm = self.chained(Architecture::Colm, CHAINS, vocabulary)?;
        let wanted = weights_at(&colm, k);
        let llama = |hidden: usize| -> Result<ColmConfig> {
            Ok(ColmConfig::new(ConfigFile {
                chains: vec![1],
                hidden_size: hidden,
                intermediate_size: hidden * INTERMEDIATE / HIDDEN,
                num_attention_heads: HEADS * k,
                num_key_value_heads: Some(KV_HEADS * k),
                ..colm.file.clone()
            })?)
        };
        let candidates = (HIDDEN / 2..=HIDDEN * CHAINS).step_by(2).map(llama);
        let candidates = candidates.collect::<Result<Vec<_>>>()?;
        let nearest =
            candidates.into_iter().min_by_key(|llama| weights_at(llama, 1).abs_diff(wanted));
        nearest.context("no candidate for the hidden size")
    }

    /// The common recipe; `seed` selects the data.
    pub fn recipe(&self, seed: u64, chains: usize) -> Recipe {
        Recipe {
            seed,
            steps: self.steps,
            batch_size: 32,
            tasks: TASKS.to_vec(),
            loss: Loss::in_proportion_to_k(chains),
            frozen: 0,
            frozen_backbone: false,
            learning_rate: 5e-3,
            warmup: self.steps / 12,
            weight_decay: 0.05,
            max_gradient_norm: 1.,
        }
    }
}
