//! The computations of CoLM on candle tensors: linear layers, attention over the paged KV cache, RMS norms, RoPE and
//! the gated activation, each for all chains of a layer in one call. The model they implement is defined in
//! `docs/spec.md`.
//!
//! # Example
//!
//! A ChainLinear of two chains (`docs/spec.md#layers`): `y_1 = W_1 x_1` and `y_2 = W_2 [x_1, x_2]`.
//!
//! ```
//! use candle_core::{Device, Result, Tensor};
//! use colm_kernels::{chain_linear, ChainRows, ChainWeights, MatmulPrecision};
//!
//! # fn main() -> Result<()> {
//! let cpu = &Device::Cpu;
//! // W_1 [1, 2] reads the 2 inputs of chain 1; W_2 [1, 3] also reads the input of chain 2.
//! let w1 = Tensor::new(&[[1f32, 10.]], cpu)?;
//! let w2 = Tensor::new(&[[1f32, 1., 100.]], cpu)?;
//! let weights = ChainWeights::pack_floats(&[(w1, None), (w2, None)], MatmulPrecision::F32)?;
//!
//! // Chain 1 is active on rows 0 and 1, chain 2 on row 1 only.
//! let rows = ChainRows::new(&[vec![0, 1], vec![1]])?;
//! let x1 = Tensor::new(&[[1f32, 2.], [3., 4.]], cpu)?;
//! let x2 = Tensor::new(&[[5f32]], cpu)?;
//!
//! let y = chain_linear(&[x1, x2], &rows, &[&weights])?.remove(0);
//! assert_eq!(y[0].to_vec2::<f32>()?, [[21.], [43.]]);
//! assert_eq!(y[1].to_vec2::<f32>()?, [[507.]]);
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! **Step and row.** The engine works in steps. A step is a batch of sequences: prompts of different lengths, possibly
//! continuing a cached prefix, or sequences that decode one token each. All of it is flattened to *rows*; a row is a
//! pair (sequence, position). There is no padded batch dimension.
//!
//! **Active rows.** A chain need not be computed on every row. In prefix-chain prefill
//! (`docs/spec.md#prefix-chain-prefill`) chain 1 is active on all rows of a prompt, and the chains after it only on the
//! rows whose logits are requested. Rows on which a chain is inactive do not exist in its tensors. [`ChainRows`] says
//! which rows each chain has. For attention, the rows of a chain are one run of positions per sequence, a
//! [`QueryRange`].
//!
//! **Paged KV cache.** Per layer, keys and values are two tensors of *KV blocks* of `block_size` positions
//! ([`KvBlocks`]). Entry b of a sequence's block table ([`BlockTables`]) names the KV block of positions
//! `b * block_size ..`. A new row is written to a *slot*, `block * block_size + offset` ([`Slots`]). A chain reads a
//! range of the key/value heads: its own in CoLM, all of them in CoLM-Air. The order of the numbers within a KV block
//! belongs to the backend: the CPU layout is defined in `cpu/kv_layout.rs`, the CUDA layout in `cuda/kv_blocks.cuh`. A
//! cache is written and read by one backend only.
//!
//! **Weights.** [`ChainWeights`] packs the weights into panels once, at load time; for a GPU they stay row-major.
//! Weights are f32, bf16, f16, or quantized by ggml's types. On the CPU they are multiplied with f32 activations, or with
//! activations rounded to bf16 ([`MatmulPrecision`]). Sums are f32 throughout.
//!
//! # Guarantees on the CPU
//!
//! The result of a row depends only on its own position, query, keys and values, bit for bit: not on the other rows or
//! sequences of the step, on how a prompt was cut into chunks, on which KV blocks hold its cache, or on the number of
//! threads. It does depend on whether multiply-add is fused, and on whether AMX or, with rounded activations, AVX512-BF16
//! multiplies bf16 weights and quantized ones other than Q6K. `COLM_MAX_CPU_ISA` ([`check_isa_limit`]) limits the
//! instruction sets.
//!
//! Work is shared by a pool of threads, one per core unless the environment variable `RAYON_NUM_THREADS` or
//! [`with_threads`] says otherwise.
//!
//! # GPU
//!
//! With the feature `cuda`, the same functions run the kernels of the crate `colm-cuda` on tensors on a GPU: bf16 and
//! f16, within the limits that [`check_gpu_limits`] checks. There, x and y of a linear layer have the dtype of its
//! weights ([`activation_dtype`]), and the bits of a row may depend on whether its chain has more than 32 rows.
//!
//! The feature `twin` is for tests. The *twin* is an emulator of the CUDA kernels: their sources, compiled for the CPU
//! and run thread by thread (see the crate `colm-kernels-twin`). With it, tensors in CPU memory that are bf16 or f16
//! take the path of a GPU.
//!
//! # Errors
//!
//! All functions return candle errors with a message that names the argument, and the chain, counted from 1, where one
//! is at fault. Callers do not match on them: every one is a violation of a documented requirement.

#![warn(missing_docs)]

mod attention;
mod block_tables;
mod chain_rows;
mod cpu;
#[cfg(feature = "gpu")]
mod cuda;
mod device;
mod kv_block_bytes;
mod kv_blocks;
mod linear;
mod matmul_precision;
mod norm;
mod rope;
mod rope_and_write;
mod silu;
mod weights;

pub use attention::{chain_attention, ChainQueries, QueryRange};
pub use block_tables::{BlockTables, Slots};
pub use chain_rows::ChainRows;
pub use cpu::arch::{check_isa_limit, instruction_set, rounding, IsaLimitError};
pub use cpu::thread_pool::with_threads;
pub use device::{
    activation_dtype, check_gpu_limits, gpu_limits, supports_device, uses_gpu_kernels,
};
pub use kv_blocks::KvBlocks;
pub use linear::{chain_gated, chain_linear, chain_linear_add};
pub use matmul_precision::{MatmulPrecision, ParsePrecisionError};
pub use norm::chain_rms_norm;
pub use rope::{Llama3Scaling, Rope};
pub use rope_and_write::{rope_and_write, NewKeysValues, NewRows};
pub use silu::silu_mul;
pub use weights::{ChainWeights, Unpacked};
