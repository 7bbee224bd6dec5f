//! A small trainer for CoLM, CoLM-Air and Llama models on a CPU, with generated data.
//!
//! [`chain_model`] is the model that is trained: a tensor per chain and block, with candle's autograd. [`model`] is a
//! reference for tests: dense matrices in which the blocks above the block diagonal are masked, without KV cache.
#![warn(missing_docs)]

pub mod batch;
pub mod card;
pub mod chain_model;
pub mod cost;
pub mod data;
pub mod evaluate;
pub mod fused;
pub mod gradients;
pub mod model;
pub mod optimizer;
pub mod paper_recipe;
pub mod parallel;
pub mod parameters;
pub mod recipe;
pub mod save;
pub mod stale_files;
pub mod state;
pub mod tokenizer;
pub mod train;
pub mod weights;

mod positions;
