//! What the tests and benchmarks of this workspace share.
//!
//! Without the feature `engine` the crate knows checkpoints only and builds without the host.

pub mod comparison;
pub mod damage;
pub mod folders;
pub mod process_memory;
pub mod random_model;
pub mod server_process;
pub mod small_checkpoint;
pub mod statistics;
pub mod table;

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod host_llama;
#[cfg(feature = "engine")]
pub mod running_answers;
#[cfg(feature = "engine")]
pub mod standalone;
