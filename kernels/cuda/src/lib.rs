//! The CUDA kernels of CoLM as functions on candle tensors: the launchers of [`ffi`] with checks of shapes, dtypes and
//! devices.
//!
//! Tensors are bf16 or f16, sums are f32, and the sizes are limited as [`limits`] says. Every function enqueues its
//! work on the stream of its tensors' device and returns at once. With the twin, the CPU emulator in `kernels/twin`,
//! tensors are in CPU memory and the work is done on return.
//!
//! Errors are candle errors that name the argument, and the chain, counted from 1, where one is at fault.

#![warn(missing_docs)]

mod attention;
pub mod ffi;
mod kv_blocks;
pub mod limits;
mod linear;
mod memory;
mod norm;
mod rope;
mod rope_and_write;

pub use attention::{chain_attention, AttentionPlan, ChainHeads, QueryRange};
pub use kv_blocks::{kv_write, KvBlocks, KvRows};
pub use linear::{chain_linear, LinearInput, LinearProduct};
pub use norm::{chain_rms_norm, NormChain};
pub use rope::{rope, RopeTable};
pub use rope_and_write::{rope_and_write, RopeChain};
