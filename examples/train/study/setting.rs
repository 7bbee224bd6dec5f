//! The sizes of the study: models, tasks, steps.

use anyhow::{Context, Result};
use colm_checkpoint::{Architecture, ColmConfig, ConfigFile};
use colm_train::card::weights_at;
use colm_train::data::Task;
use colm_train::recipe::{Loss, Recipe};

/// What every model is trained on.
pub const TASKS: [Task; 5] =
    [Task::Multiply, Task::Divide, Task::Letter, Task::Month, Task::Compare];

/// What the last chain is tuned on afterwards.
pub const NEW_TASKS: [Task; 2] = [Task::Weekday, Task::Remainder];

/// Held-out prompts per task (fewer where a task has fewer).
pub const HELD_OUT: usize = 150;

/// Chains of the full models.
pub const CHAINS: usize = 4;

/// Chains of the model that is grown chain by chain.
pub const GROWN: usize = 3;

/// One chain's widths.
const HIDDEN: usize = 32;
const INTERMEDIATE: usize = 80;
const HEADS: usize = 2;
const KV_HEADS: usize = 1;
const HEAD_DIM: usize = 16;
const LAYERS: usize = 3;

/// Entries of the vocabulary.
pub const VOCABULARY: usize = 512;

/// What the command line decides.
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
        // How `expand` draws a new chain's weights: about as wide as those of a fresh model.
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
            ..ConfigFile::of(architecture, vec![1; chains])
        })?)
    }

    /// The dense Llama of nearly as many weights as the CoLM has at `k` chains, and as many layers
    /// and heads; its hidden size is what is left to choose, with an intermediate size of 2.5 times
    /// that.
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
        nearest.context("no hidden size to choose from")
    }

    /// The recipe that all runs share; `seed` chooses the data.
    pub fn recipe(&self, seed: u64, chains: usize) -> Recipe {
        Recipe {
            seed,
            steps: self.steps,
            batch: 32,
            tasks: TASKS.to_vec(),
            loss: Loss::in_proportion_to_k(chains),
            frozen: 0,
            rate: 5e-3,
            warmup: self.steps / 12,
            weight_decay: 0.05,
            clip: 1.,
        }
    }
}
