//! A checkpoint folder to convert.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::checkpoint::Checkpoint;
use super::folder::check_model_folder;
use super::tensor_slice::TensorSlice;
use crate::config::{check_not_quantized, read_text, ColmConfig, ConfigError};
use crate::format::{
    AllowedDeviations, ChainTensor, CheckpointError, DenseKv, Layout, NonzeroSubmatrix,
};
use crate::llama::LlamaConfig;

/// All chains of a checkpoint folder: a CoLM in either layout, or a Llama, Mistral or Qwen2 model as
/// the CoLM of one chain (`docs/spec.md#chains`). Headers have been read and files mapped; weights
/// are read when they are used.
#[derive(Debug)]
pub struct Source {
    dir: PathBuf,
    config: ColmConfig,
    checkpoint: Checkpoint,
    is_llama: bool,
}

/// The config of folder `dir`, and for the Llama family, in what ways the weights may deviate from
/// the format.
pub(crate) fn read_config(
    dir: &Path,
) -> Result<(ColmConfig, Option<AllowedDeviations>), CheckpointError> {
    check_model_folder(dir)?;
    let path = dir.join("config.json");
    let text = read_text(&path)?;
    let config = match LlamaConfig::parse(&text) {
        Ok(Some(llama)) => llama.into_colm().map(|(config, deviations)| (config, Some(deviations))),
        Ok(None) => ColmConfig::parse(&text).and_then(not_quantized).map(|config| (config, None)),
        Err(error) => Err(error),
    };
    Ok(config.map_err(|source| source.in_file(&path))?)
}

fn not_quantized(config: ColmConfig) -> Result<ColmConfig, ConfigError> {
    check_not_quantized(config.file.other.get("quantization_config")).map(|()| config)
}

impl Source {
    /// Opens folder `dir`. The weights may be safetensors files or, if there are none, PyTorch state
    /// dicts.
    ///
    /// # Errors
    /// If the config or the files break a rule of `docs/spec.md`, or if the weights are quantized.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let (config, deviations) = read_config(dir)?;
        let checkpoint = Checkpoint::open_with(
            dir,
            &config,
            config.all_chains(),
            deviations.unwrap_or(AllowedDeviations::FOR_COLM),
        )?;
        checkpoint.check_tied_head()?;
        Ok(Self { dir: dir.into(), config, checkpoint, is_llama: deviations.is_some() })
    }

    /// The config of folder `dir`, which needs no weights, and whether it is of the Llama family. If
    /// it is, the config is that of the equivalent CoLM of one chain.
    ///
    /// # Errors
    /// If there is no config.json, or if it breaks a rule of `docs/spec.md#config`.
    pub fn read_config(dir: &Path) -> Result<(ColmConfig, bool), CheckpointError> {
        let (config, deviations) = read_config(dir)?;
        Ok((config, deviations.is_some()))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The config; of a Llama that of the equivalent CoLM of one chain.
    pub fn config(&self) -> &ColmConfig {
        &self.config
    }

    /// The layout of the tensors; of a Llama the dense one.
    pub fn layout(&self) -> Layout {
        self.checkpoint.layout()
    }

    /// Whether config.json is of the Llama family.
    pub fn is_llama(&self) -> bool {
        self.is_llama
    }

    /// The dtype of `tensor` in its file: F32, F16 or BF16.
    ///
    /// # Panics
    /// If `tensor` is not one of the config's tensors.
    pub fn dtype(&self, tensor: &ChainTensor) -> Dtype {
        self.checkpoint.dtype(tensor)
    }

    /// The weights of `tensor`. They are copied only where a state dict holds them in another order.
    ///
    /// # Errors
    /// If `tensor` is not one of the config's tensors.
    pub fn tensor(&self, tensor: &ChainTensor) -> Result<TensorSlice<'_>, CheckpointError> {
        if !self.checkpoint.contains(tensor) {
            let (name, file) = (tensor.name(), self.dir.clone());
            return Err(CheckpointError::MissingTensor { name, file });
        }
        Ok(self.checkpoint.tensor(tensor))
    }

    /// Checks that the weights of a dense layout are zero wherever a chain would read a later one.
    /// This reads the weights.
    ///
    /// # Errors
    /// If a value is not zero; see [`Checkpoint::check_zero_submatrices`].
    pub fn check_zero_submatrices(&self) -> Result<(), CheckpointError> {
        self.checkpoint.check_zero_submatrices()
    }

    /// Every submatrix of a dense layout that must be zero and is not, and its file. This reads the
    /// weights.
    pub fn nonzero_submatrices(
        &self,
    ) -> impl Iterator<Item = Result<(&Path, NonzeroSubmatrix), CheckpointError>> {
        self.checkpoint.nonzero_submatrices()
    }

    /// The shapes of Air's k and v in the dense layout; of a chain layout those of the dense
    /// checkpoint it was made from.
    pub fn dense_kv(&self) -> DenseKv {
        self.checkpoint.dense_kv()
    }

    /// Releases the memory of the mapped pages. They are mapped again when they are used.
    ///
    /// # Errors
    /// If the system call fails.
    pub fn release_pages(&self) -> Result<(), CheckpointError> {
        self.checkpoint.release_pages()
    }

    /// The weight files, sorted.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.checkpoint.files()
    }
}
