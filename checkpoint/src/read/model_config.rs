//! The config of a model that is run or converted.

use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::weight_files::{select_files, WeightFiles};
use crate::config::{read_text, ChainCount, ColmConfig, ConfigError};
use crate::format::{AllowedDeviations, ChainTensor, CheckpointError};
use crate::llama::LlamaConfig;

/// The config of a CoLM, or of a Llama, Mistral or Qwen model, which is a CoLM of one chain
/// (`docs/spec.md#llamas-mistrals-and-qwens`). The weights are in safetensors files; those of a CoLM may be quantized.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    pub(crate) config: ColmConfig,
    /// In what ways the weights may deviate from the format.
    pub(crate) deviations: AllowedDeviations,
    /// Whether it is of the Llama family.
    pub(crate) is_llama: bool,
}

impl ModelConfig {
    /// Reads config.json.
    ///
    /// # Errors
    /// If the file cannot be read, or breaks a rule of `docs/spec.md#config`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?).map_err(|source| source.in_file(path))
    }

    /// Parses the text of config.json.
    ///
    /// # Errors
    /// If it breaks a rule of `docs/spec.md#config`.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        if let Some(llama) = LlamaConfig::parse(json)? {
            let (config, deviations) = llama.into_colm()?;
            return Ok(Self { config, deviations, is_llama: true });
        }
        let (config, deviations) = (ColmConfig::parse(json)?, AllowedDeviations::default());
        Ok(Self { config, deviations, is_llama: false })
    }

    /// The config as that of a CoLM.
    pub fn colm(&self) -> &ColmConfig {
        &self.config
    }

    /// As [`Checkpoint::open`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(&self, dir: &Path, k: ChainCount) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_with(dir, &self.config, k, self.deviations)
    }

    /// As [`files_for`](super::files_for).
    ///
    /// # Errors
    /// As [`files_for`](super::files_for).
    pub fn files(&self, dir: &Path, k: ChainCount) -> Result<Vec<PathBuf>, CheckpointError> {
        Ok(WeightFiles::find(dir, &self.config, k, self.deviations)?.paths)
    }

    /// As [`Self::files`], for a checkpoint that is not downloaded yet. `names` are the names of all its files, and the
    /// result is the names of those needed. If the index is among `names`, it is already in `dir`.
    ///
    /// # Errors
    /// As [`Self::files`].
    pub fn select_files(
        &self,
        dir: &Path,
        names: &[String],
        k: ChainCount,
    ) -> Result<Vec<String>, CheckpointError> {
        select_files(dir, names, &self.config, k, self.deviations)
    }

    /// Whether `tensor` is in no file and consists of zeros: the o bias of a Qwen2.
    pub fn is_implied_zero(&self, tensor: &ChainTensor) -> bool {
        self.deviations.implies_zero(tensor.id)
    }
}
