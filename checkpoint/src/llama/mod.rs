//! config.json of the Llama family (Llama, Mistral, Qwen2), as the CoLM of one chain that computes
//! the same.
//!
//! The reference is what Hugging Face transformers computes for the config, with its defaults. A
//! field that makes the model compute what CoLM cannot is an error that names the field.

mod config;
mod fields;

pub(crate) use config::LlamaConfig;
