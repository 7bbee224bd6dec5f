//! A small trainer of CoLM, CoLM-Air and Llama models, on a CPU, on data it generates itself.
//!
//! [`chain_model`] is what is trained: a tensor per chain and block, on candle's autograd. [`model`]
//! is the reference: dense matrices with the blocks above the block diagonal masked, plain and
//! obvious, without KV cache or paging.
#![warn(missing_docs)]

pub mod batch;
pub mod card;
pub mod chain_model;
pub mod cost;
pub mod data;
pub mod evaluate;
pub mod fused;
pub mod model;
pub mod optimizer;
pub mod parallel;
pub mod parameters;
pub mod recipe;
pub mod save;
pub mod state;
pub mod tokenizer;
pub mod train;
pub mod weights;

mod positions;
