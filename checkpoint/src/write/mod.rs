//! Writing a checkpoint folder.
//!
//! [`layouts`] writes tensors that a program has in memory; [`stream`] carries out a
//! [`ConversionPlan`](crate::convert::ConversionPlan) on checkpoints larger than memory. Both write
//! into an [`atomic_folder`], which gets its final name when it is complete.

mod atomic_folder;
mod destination;
mod disk_space;
mod layouts;
mod links;
mod row_band;
mod safetensors_file;
mod stale_folders;
mod stream;
mod temporary_name;

pub use layouts::{write_chain_layout, write_dense_layout};
pub use stale_folders::{remove_stale_folders, Removal, StaleFolder};
