//! The reading side: what is opened, what it says of a folder, and what it refuses.

mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod folder;
mod hostile;
mod inspect;
mod llama_config;
mod llama_weights;
mod mutated;
#[cfg(target_os = "linux")]
mod no_files;
mod other_sources;
mod shown;
mod sizes;
mod state_dicts;
mod verify;
