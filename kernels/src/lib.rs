//! What CoLM computes: linear layers, attention over the paged cache, norms, rotary positions and the
//! gated activation, chain by chain, on candle tensors.
//!
//! **The step.** The engine works in steps. One step carries a batch of sequences: prompts of
//! unequal length, possibly continuing a prefix that is already in the cache, or sequences that
//! decode one token each. Everything a step computes is flattened to *rows*, and a row is a pair
//! (sequence, position); there is no padded batch dimension here.
//!
//! **Active rows.** A chain need not be computed on every row of the step. In CoLM-Air's
//! prefix-chain prefill (SPEC 5) chain 1 is active on all rows of a prompt and the chains above it
//! only on the rows whose logits are asked for. So the queries of a chain are, per sequence, one run
//! of consecutive positions, a [`QueryRange`]; rows on which a chain is inactive do not exist in its
//! tensors. [`chain_attention`] takes all chains of a layer, each with its own ranges, in one call.
//!
//! **Paging.** Keys and values live in the host's cache: per layer two tensors made of blocks of
//! `block_size` positions. A sequence's positions `b * block_size ..` stand in the b-th block its row
//! of the [`BlockTables`] names; a row that is written goes to a slot, `block * block_size +
//! offset`. [`KvBlocks`] is the view of one layer's two tensors, and the one place that knows how
//! the bytes of a block are arranged. A chain reads a range of the key/value heads: its own in CoLM,
//! all of them in CoLM-Air, where every chain reads those of chain 1.
//!
//! **Reproducible rows.** On the CPU the result of a row depends on the row's own position, query,
//! keys and values alone, bit for bit: not on the other rows or sequences of the step, on how a
//! prompt was cut into chunks, on which blocks hold its cache, or on the number of threads. A greedy
//! answer is therefore the same alone and in a batch as far as these functions go. (The last bits do
//! depend on whether the processor has fused multiply-add.)
//!
//! **Threads.** On the CPU the functions share their work among threads that stay awake between two of
//! them: as many as there are cores, or as the environment variable `RAYON_NUM_THREADS` says, or as
//! [`with_threads`] is told.
//!
//! Tensors are f32, bf16 or f16 and sums are f32 throughout. Weights may also be quantized as ggml does
//! ([`ChainWeights::pack_quantized`]).
//!
//! **On a GPU** (feature `cuda`) the same functions run the kernels of `colm-cuda`, in bf16 and f16, on
//! widths that are multiples of 8 and heads of 32, 64 or 128 ([`check_gpu`]). There x and y of a linear layer
//! have the dtype of its weights ([`activations`]), and a row's bits may depend on whether its chain has more
//! than 32 rows. The feature `twin` runs those kernels on the CPU, for tests.

#![warn(missing_docs)]

mod attention;
mod block_tables;
mod chain_rows;
mod cpu;
#[cfg(feature = "gpu")]
mod cuda;
mod kv_blocks;
mod linear;
mod norm;
mod place;
mod rope;
mod silu;
mod weights;

pub use attention::{chain_attention, ChainQueries, QueryRange};
pub use block_tables::{BlockTables, Slots};
pub use chain_rows::ChainRows;
pub use cpu::team::with_threads;
pub use kv_blocks::KvBlocks;
pub use linear::{chain_gated, chain_linear, chain_linear_add};
pub use norm::chain_rms_norm;
pub use place::{activations, check_gpu, is_gpu, runs_on};
pub use rope::{Llama3Scaling, Rope};
pub use silu::silu_mul;
pub use weights::{ChainWeights, Unpacked};
