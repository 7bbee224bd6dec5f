//! The CoLM checkpoint format: config, chains, tensor names and both layouts of SPEC 4.
//!
//! ```no_run
//! # fn main() -> Result<(), colm_checkpoint::CheckpointError> {
//! use colm_checkpoint::{Checkpoint, ColmConfig};
//!
//! let folder = std::path::Path::new("colm-1b");
//! let config = ColmConfig::read(&folder.join("config.json"))?;
//! let checkpoint = Checkpoint::open(folder, &config, 2)?; // the model of the first 2 chains
//! checkpoint.check_zero_blocks()?;
//! for tensor in config.tensors(2) {
//!     let view = checkpoint.tensor(&tensor);
//!     println!("{} {:?} {:?}", tensor.name(), view.dtype(), view.shape());
//! }
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

pub mod block;
pub mod chains;
pub mod config;
pub mod convert;
pub mod error;
pub mod inspect;
pub mod layout;
pub mod names;
pub mod new_folder;
pub mod plan;
pub mod read;
pub mod source;
pub mod stream;
pub mod verify;
pub mod write;
pub mod zero_blocks;

mod accompanying;
mod cost;
mod header;
mod json;
mod llama;
mod llama_rope;
mod normal;
mod pickle;
mod strip;
mod survey;
mod tensor_file;
mod values;
mod weight_file;

pub use block::Block;
pub use chains::{Chains, Split};
pub use config::{Architecture, ColmConfig, ConfigError, ConfigFile, Llama3Scaling, RopeScaling};
pub use error::CheckpointError;
pub use header::HeaderError;
pub use layout::{files_for, names_for, Layout, INDEX_FILE};
pub use names::{ChainTensor, Part, Projection};
pub use pickle::{GuardError, PickleError};
pub use plan::Plan;
pub use read::Checkpoint;
pub use safetensors::{Dtype, View};
pub use source::Source;
pub use stream::Progress;
pub use write::{write_chain_layout, write_dense_layout};
pub use zero_blocks::NonzeroBlock;
