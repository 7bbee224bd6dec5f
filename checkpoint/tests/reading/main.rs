//! Reading: what is accepted, what is reported about a folder, and which errors there are.

mod command_line;
mod folder;
mod inspect;
mod llama_config;
mod llama_weights;
mod malicious;
mod messages;
mod mutated;
mod names_of_files;
mod other_sources;
mod sizes;
#[cfg(target_os = "linux")]
mod special_files;
mod state_dicts;
mod verify;
