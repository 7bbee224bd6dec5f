//! The CUDA kernels of CoLM as functions on candle tensors: what [`ffi`] declares, with shapes, dtypes and
//! places checked.
//!
//! Tensors are bf16 or f16, sums are f32. Every function puts its work on the stream of its tensors' device
//! and returns at once. On the CPU twin (`kernels/twin`), where the launchers run the same kernels thread for
//! thread, tensors are in host memory and the work is done on return: so all of this is tested without a GPU.

#![warn(missing_docs)]

mod attention;
pub mod ffi;
mod kv_cache;
mod linear;
mod memory;
mod norm;

pub use attention::{chain_attention, AttentionPlan, ChainHeads, QueryRange};
pub use kv_cache::{kv_write, rope, KvBlocks, RopeTable};
pub use linear::{chain_linear, LinearInput, LinearProduct};
pub use norm::{chain_rms_norm, NormChain};
