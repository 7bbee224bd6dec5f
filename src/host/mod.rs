//! The engine: the only module that uses types of `mistralrs-core`.
//!
//! [`engine_builder`] has an engine's options. [`start`] starts the host's engine with [`loader`], which loads the model
//! ([`load_weights`]) as [`normal_model`]. A request goes through [`prepared`] (and [`prompt`], [`grammar`]) to the engine;
//! [`normal_model`] computes its steps, from [`batch`]; [`answer_stream`] turns the tokens into text. [`kv_tier`] keeps KV
//! blocks outside the process.

pub mod answer_stream;
mod batch;
pub mod chain_choice;
pub mod counters;
pub mod dense;
mod device_map;
mod dry;
pub mod dtype;
pub mod engine;
pub mod engine_builder;
mod find;
pub mod gpu;
pub mod grammar;
mod host_types;
pub mod hub;
mod isq_model;
pub mod kv_pool;
pub mod kv_tier;
mod load_bar;
mod load_weights;
pub mod loaded;
pub mod loader;
mod logit_bias;
pub mod memory;
pub mod memory_plan;
pub mod normal_model;
pub mod prepared;
pub mod prompt;
mod prompt_files;
pub mod prompt_probe;
mod request_options;
mod sampling;
mod start;
mod step_plan;
mod token_env;
pub mod vocabulary;
mod weight_sizes;
