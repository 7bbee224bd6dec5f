//! CoLM checkpoints: the config, the format, and conversions.
//!
//! A CoLM checkpoint holds one model of n chains, and so n models: the model at k chains uses the
//! weights of chains 1 to k only. `docs/spec.md` in the repository defines the model and the format;
//! this crate reads, checks, converts and writes it. It does not depend on an inference engine.
//!
//! # Map
//!
//! Data flows through the modules in this order, and each uses only those before it:
//!
//! | module | what |
//! |---|---|
//! | `text`, [`json`], `regular_file` | safe reading of untrusted files, and quoting them in error messages |
//! | [`panics`] | panics of libraries as errors |
//! | `config` | config.json: [`ColmConfig`], and [`Chains`], [`Split`] and [`ChainCount`] |
//! | `pickle` | PyTorch state dicts |
//! | `format` | names and shapes of tensors ([`TensorId`], [`ChainTensor`]), both [`Layout`]s, headers, index |
//! | `llama` | a Llama, Mistral or Qwen config as a CoLM of one chain |
//! | `paper` | params.json, names and order of the paper's own conventions |
//! | `read` | [`Checkpoint`], as the engine opens it, and [`Source`], as the conversions do |
//! | [`convert`] | the conversions: each returns a [`ConversionPlan`](convert::ConversionPlan) |
//! | [`verify`], [`inspect`] | lists everything that is wrong with a folder; reports the cost of the model at each k |
//! | `write` | writes a plan, or tensors in memory ([`write_chain_layout`]), into a new folder |
//!
//! The program `colm-convert` (`src/bin/colm-convert`) is a command line for these.
//!
//! # Example
//!
//! Writes a CoLM-Air of two chains in the chain layout, then takes the model of its first chain out
//! as a checkpoint of its own:
//!
//! ```
//! use colm_checkpoint::convert::extract;
//! use colm_checkpoint::inspect::inspect;
//! use colm_checkpoint::safetensors::tensor::TensorView;
//! use colm_checkpoint::{
//!     write_chain_layout, Architecture, ChainCount, CheckpointError, ColmConfig, ConfigFile, Dtype,
//!     Layout, Source,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ColmConfig::new(ConfigFile {
//!     vocab_size: 16,
//!     hidden_size: 8,
//!     intermediate_size: 16,
//!     num_hidden_layers: 1,
//!     num_attention_heads: 4,
//!     num_key_value_heads: Some(2),
//!     max_position_embeddings: 32,
//!     ..ConfigFile::new(Architecture::ColmAir, vec![1, 1])
//! })?;
//! let folder = tempfile::tempdir()?;
//! let (big, small) = (folder.path().join("big"), folder.path().join("small"));
//!
//! let zeros = vec![0; 4096];
//! write_chain_layout(&big, &config, |tensor| {
//!     let bytes = 4 * tensor.shape().iter().product::<usize>();
//!     let view = TensorView::new(Dtype::F32, tensor.shape(), &zeros[..bytes]);
//!     Ok::<_, CheckpointError>(view.expect("the shape has as many bytes"))
//! })?;
//!
//! let source = Source::open(&big)?;
//! let plan = extract(&source, ChainCount::ONE, Layout::Chains)?;
//! plan.write(&source, &small, false, |_| ())?;
//!
//! let found = inspect(&small)?;
//! assert_eq!((found.chains.as_slice(), found.widths[0].hidden), (&[1][..], 4));
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

pub mod convert;
pub mod inspect;
pub mod json;
pub mod panics;
pub mod verify;

mod config;
mod format;
mod llama;
mod paper;
mod pickle;
mod read;
mod regular_file;
mod text;
mod write;

pub use config::{
    check_not_quantized, Architecture, ChainCount, ChainCountError, ChainWidths, Chains,
    ColmConfig, ConfigError, ConfigFile, Llama3Scaling, RopeScaling, Split,
};
pub use format::{
    quantized_bytes, quantized_type, ChainTensor, CheckpointError, DenseKv, HeaderError, Layout,
    NonzeroSubmatrix, Projection, TensorId, INDEX_FILE,
};
pub use pickle::{BoundsError, PickleError};
pub use read::{
    check_model_folder, files_for, Checkpoint, ModelConfig, Progress, Source, TensorSlice,
};
pub use regular_file::FileError;
pub use safetensors::{self, Dtype, View};
pub use text::{abbreviate, escape_control};
pub use write::{
    remove_stale_folders, write_chain_layout, write_dense_layout, Removal, StaleFolder,
};
