//! A checkpoint folder to convert.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::checkpoint::Checkpoint;
use super::folder::{check_model_folder, is_paper_folder};
use super::model_config::ModelConfig;
use super::tensor_slice::TensorSlice;
use crate::config::{check_not_quantized, read_text, ColmConfig, ConfigError};
use crate::format::{
    torch_name, AllowedDeviations, ChainTensor, CheckpointError, DenseKv, Layout, NonzeroSubmatrix,
};
use crate::paper::{parse_params, PARAMS_FILE};

/// The chains of a checkpoint folder: a CoLM in either layout or in the paper's own conventions
/// (`docs/spec.md#the-papers-own-conventions`), or a Llama, Mistral or Qwen model as the CoLM of one
/// chain (`docs/spec.md#llamas-mistrals-and-qwens`). Headers have been read and files mapped; weights are read when they
/// are used.
#[derive(Debug)]
pub struct Source {
    dir: PathBuf,
    config: ColmConfig,
    checkpoint: Checkpoint,
    is_llama: bool,
}

/// The config of folder `dir`, to be converted: config.json, or without one the params.json of the paper's conventions. The
/// weights may be PyTorch state dicts.
pub(crate) fn read_config(dir: &Path) -> Result<ModelConfig, CheckpointError> {
    let (path, parse): (_, fn(&str) -> _) = if is_paper_folder(dir)? {
        (dir.join(PARAMS_FILE), paper)
    } else {
        check_model_folder(dir)?;
        (dir.join("config.json"), llama_or_colm)
    };
    let text = read_text(&path)?;
    Ok(parse(&text).map_err(|source| source.in_file(&path))?)
}

fn llama_or_colm(json: &str) -> Result<ModelConfig, ConfigError> {
    let mut model = ModelConfig::parse(json)?;
    let other = &mut model.config.file.other;
    check_not_quantized(other.get("quantization_config"))?;
    // It leads to Python files, which conversions do not copy. Unlike `remove`, `retain` keeps the order.
    other.retain(|field, _| field != "auto_map");
    model.deviations.state_dicts = true;
    Ok(model)
}

fn paper(json: &str) -> Result<ModelConfig, ConfigError> {
    let config = parse_params(json)?;
    Ok(ModelConfig { config, deviations: AllowedDeviations::FOR_PAPER, is_llama: false })
}

impl Source {
    /// Opens folder `dir`. The weights may be safetensors files or, if there are none, PyTorch state
    /// dicts.
    ///
    /// # Errors
    /// If the config or the files break a rule of `docs/spec.md`, or if the weights are quantized.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        Self::of_model(dir, read_config(dir)?, None)
    }

    /// As [`Self::open`], but in the chain layout the files of the first `k` chains are opened alone, and the others may be
    /// missing.
    ///
    /// # Errors
    /// Also if the model has fewer chains.
    pub fn open_chains(dir: &Path, k: usize) -> Result<Self, CheckpointError> {
        Self::of_model(dir, read_config(dir)?, Some(k))
    }

    fn of_model(dir: &Path, model: ModelConfig, k: Option<usize>) -> Result<Self, CheckpointError> {
        let ModelConfig { mut config, deviations, is_llama } = model;
        let k = k.map_or(Ok(config.all_chains()), |k| config.chain_count(k))?;
        let checkpoint = Checkpoint::open_with(dir, &config, k, deviations)?;
        checkpoint.check_tied_head()?;
        if deviations.paper_conventions {
            // params.json has no such field, and config.json should.
            let dtype = torch_name(checkpoint.matrix_dtype());
            config.file.other.insert("torch_dtype".into(), dtype.into());
        }
        Ok(Self { dir: dir.into(), config, checkpoint, is_llama })
    }

    /// The config of folder `dir`, which needs no weights, and whether it is of the Llama family. If
    /// it is, the config is that of the equivalent CoLM of one chain.
    ///
    /// # Errors
    /// If there is neither a config.json nor a params.json, or if it breaks a rule of `docs/spec.md`.
    pub fn read_config(dir: &Path) -> Result<(ColmConfig, bool), CheckpointError> {
        let ModelConfig { config, is_llama, .. } = read_config(dir)?;
        Ok((config, is_llama))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The config; of a Llama that of the equivalent CoLM of one chain. It has no `auto_map`: conversions leave out
    /// Python code, unless [`ConversionPlan::with_python`](crate::convert::ConversionPlan::with_python) adds it.
    pub fn config(&self) -> &ColmConfig {
        &self.config
    }

    /// The layout of the tensors; of a Llama the dense one, and of a folder in the paper's conventions the chain
    /// layout, in which conversions write it unless they are told otherwise.
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

    /// The weights of `tensor`. They are copied only where a state dict or the paper's conventions hold them in another
    /// order.
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
