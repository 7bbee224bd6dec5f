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
pub mod error;
pub mod layout;
pub mod names;
pub mod read;
pub mod write;
pub mod zero_blocks;

mod weight_file;

pub use block::Block;
pub use chains::{Chains, Split};
pub use config::{Architecture, ColmConfig, ConfigError, ConfigFile, Llama3Scaling, RopeScaling};
pub use error::CheckpointError;
pub use layout::{files_for, Layout};
pub use names::{ChainTensor, Part, Projection};
pub use read::Checkpoint;
pub use safetensors::{Dtype, View};
pub use write::{write_chain_layout, write_dense_layout};
pub use zero_blocks::NonzeroBlock;
