//! A checkpoint folder to convert from, of any kind this crate reads.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::block::Block;
use crate::config::{read_text, ColmConfig, ConfigError};
use crate::error::CheckpointError;
use crate::folder_kind::check_model_folder;
use crate::layout::Layout;
use crate::llama::Fields;
use crate::names::ChainTensor;
use crate::plan::DenseKv;
use crate::quantization::check_not_quantized;
use crate::read::{Checkpoint, Leniency};
use crate::zero_blocks::NonzeroBlock;

/// All chains of a checkpoint folder: CoLM in either layout, or a model of the Llama family seen
/// as what it is, the CoLM of one chain (SPEC 1). Headers have been read, weights not.
#[derive(Debug)]
pub struct Source {
    dir: PathBuf,
    config: ColmConfig,
    checkpoint: Checkpoint,
    is_llama: bool,
}

/// What is read of CoLM's own folders beside what SPEC 4 has.
pub(crate) const OF_COLM: Leniency =
    Leniency { state_dicts: true, no_o_bias: false, head_copy: false };

/// The config of folder `dir`; and of a Llama, how far its weights may differ from SPEC 4.
pub(crate) fn understand(dir: &Path) -> Result<(ColmConfig, Option<Leniency>), CheckpointError> {
    check_model_folder(dir)?;
    let path = dir.join("config.json");
    let text = read_text(&path)?;
    let understood = match Fields::of_other_than_colm(&text) {
        Ok(Some(llama)) => llama.into_colm().map(|(config, leniency)| (config, Some(leniency))),
        Ok(None) => ColmConfig::parse(&text).and_then(not_quantized).map(|config| (config, None)),
        Err(error) => Err(error),
    };
    Ok(understood.map_err(|source| source.in_file(&path))?)
}

fn not_quantized(config: ColmConfig) -> Result<ColmConfig, ConfigError> {
    check_not_quantized(config.file.other.get("quantization_config")).map(|()| config)
}

impl Source {
    /// Opens folder `dir` by its config.json and its weights: safetensors files or, if there are
    /// none, PyTorch state dicts.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let (config, leniency) = understand(dir)?;
        let checkpoint = Checkpoint::open_leniently(
            dir,
            &config,
            config.all_chains(),
            leniency.unwrap_or(OF_COLM),
        )?;
        checkpoint.check_head_copy()?;
        Ok(Self { dir: dir.into(), config, checkpoint, is_llama: leniency.is_some() })
    }

    /// The config of folder `dir`, which needs no weights; of a Llama the CoLM config of one chain
    /// that means the same, and true.
    pub fn read_config(dir: &Path) -> Result<(ColmConfig, bool), CheckpointError> {
        let (config, leniency) = understand(dir)?;
        Ok((config, leniency.is_some()))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The config; of a Llama the CoLM config of one chain that means the same.
    pub fn config(&self) -> &ColmConfig {
        &self.config
    }

    /// The layout of the tensors. A Llama's is the dense one.
    pub fn layout(&self) -> Layout {
        self.checkpoint.layout()
    }

    /// Whether config.json is of the Llama family, not CoLM's own.
    pub fn is_llama(&self) -> bool {
        self.is_llama
    }

    /// F32, F16 or BF16, by the header.
    ///
    /// # Panics
    /// If `tensor` is none of the config's.
    pub fn dtype(&self, tensor: &ChainTensor) -> Dtype {
        self.checkpoint.dtype(tensor)
    }

    /// The weights of `tensor`, mapped; copied where a state dict holds them in another order. Fails
    /// if `tensor` is none of the config's.
    pub fn tensor(&self, tensor: &ChainTensor) -> Result<Block<'_>, CheckpointError> {
        if !self.checkpoint.holds(tensor) {
            let (name, file) = (tensor.name(), self.dir.clone());
            return Err(CheckpointError::MissingTensor { name, file });
        }
        Ok(self.checkpoint.tensor(tensor))
    }

    /// Reads the weights of a dense layout and refuses a nonzero value where chain i would read
    /// a later chain.
    pub fn check_zero_blocks(&self) -> Result<(), CheckpointError> {
        self.checkpoint.check_zero_blocks()
    }

    /// Reads the weights of a dense layout: every block by which chain i would read a later chain,
    /// and its file.
    pub fn nonzero_blocks(
        &self,
    ) -> impl Iterator<Item = Result<(&Path, NonzeroBlock), CheckpointError>> {
        self.checkpoint.nonzero_blocks()
    }

    /// Which columns Air's k and v have in the dense layout: by their shapes, or of a chain layout by
    /// what it remembers of the dense one it comes from.
    pub fn dense_kv(&self) -> DenseKv {
        self.checkpoint.dense_kv()
    }

    /// Lets go of the files' pages in memory. What is read later is mapped again.
    pub fn release_pages(&self) -> Result<(), CheckpointError> {
        self.checkpoint.release_pages()
    }

    /// The weight files, sorted.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.checkpoint.files()
    }
}
