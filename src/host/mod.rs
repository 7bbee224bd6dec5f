//! Where CoLM meets the mistral.rs engine: the only place that names the types of `mistralrs-core`.

pub mod answer;
mod batch;
pub mod chain_choice;
pub mod counters;
pub mod dense;
pub mod engine;
mod find;
pub mod gpu;
pub mod grammar;
pub mod hub;
pub mod kv_pool;
pub mod loader;
mod logit_bias;
pub mod memory;
pub mod normal_model;
pub mod prepared;
pub mod prompt;
mod prompt_files;
pub mod prompt_probe;
pub mod request;
mod token_env;
pub mod vocabulary;
