//! The CoLM checkpoint format: config, chains, tensor names and both layouts of SPEC 4.
//!
//! ```no_run
//! # fn main() -> Result<(), colm_checkpoint::CheckpointError> {
//! use colm_checkpoint::{Checkpoint, ColmConfig};
//!
//! let folder = std::path::Path::new("colm-1b");
//! let config = ColmConfig::read(&folder.join("config.json"))?;
//! let k = config.chain_count(2)?; // the model of the first 2 chains
//! let checkpoint = Checkpoint::open(folder, &config, k)?;
//! checkpoint.check_zero_blocks()?;
//! for tensor in config.tensors(k) {
//!     let view = checkpoint.tensor(&tensor);
//!     println!("{} {:?} {:?}", tensor.name(), view.dtype(), view.shape());
//! }
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

pub mod block;
mod chain_count;
pub mod chains;
pub mod config;
pub mod convert;
pub mod error;
pub mod inspect;
pub mod json_file;
pub mod layout;
pub mod leftovers;
pub mod names;
pub mod plan;
pub mod read;
pub mod source;
pub mod stream;
pub mod verify;
pub mod write;
pub mod zero_blocks;

mod accompanying;
mod any_json;
mod bare_words;
mod config_checks;
mod config_error;
mod config_file;
mod cost;
mod escaped;
mod folder_kind;
mod header;
mod index;
mod llama;
mod llama_fields;
mod llama_rope;
mod map_only;
mod new_folder;
mod normal;
mod part_of_name;
mod pickle;
mod placed;
mod problems;
mod quantization;
mod regular_file;
mod room;
mod serde_words;
mod shortened;
mod strip;
mod survey;
mod temporary;
mod tensor_file;
mod unique_names;
mod values;
mod weight_file;

pub use block::Block;
pub use chain_count::{ChainCount, ChainCountError};
pub use chains::{Chains, Split};
pub use config::{Architecture, ColmConfig, ConfigError, ConfigFile, Llama3Scaling, RopeScaling};
pub use error::CheckpointError;
pub use escaped::escaped;
pub use folder_kind::check_model_folder;
pub use header::HeaderError;
pub use json_file::{JsonError, JsonFileError};
pub use layout::{files_for, names_for, Layout, INDEX_FILE};
pub use names::{ChainTensor, Part, Projection};
pub use pickle::{GuardError, PickleError};
pub use plan::Plan;
pub use quantization::check_not_quantized;
pub use read::Checkpoint;
pub use regular_file::NoFile;
pub use safetensors::{Dtype, View};
pub use shortened::shortened;
pub use source::Source;
pub use stream::Progress;
pub use write::{write_chain_layout, write_dense_layout};
pub use zero_blocks::NonzeroBlock;
