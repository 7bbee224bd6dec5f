//! Trains the CoLM-Air that ships with this repository, on a CPU, from data it generates itself.
//!
//! Its model is plain: dense matrices with the blocks above the block diagonal masked, candle's
//! autograd, no KV cache, no paging. Slow and obvious, and so the reference that the fast model is
//! tested against.
#![warn(missing_docs)]

pub mod card;
pub mod data;
pub mod evaluate;
pub mod model;
pub mod optimizer;
pub mod parameters;
pub mod save;
pub mod tokenizer;
pub mod train;
