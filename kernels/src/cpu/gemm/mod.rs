//! Matrix products over packed panels, in the scheme of BLIS:
//! `y[row][column] = sum over depth of lhs[row][depth] * rhs[depth][column]`. The depth is the index of an input of a
//! linear layer. BLIS calls it k, as in [`KC`]; in this project k is the number of chains.
//!
//! - The lhs is the activations, packed into micro-panels of [`MR`] rows by [`KC`] ([`lhs`]).
//! - The rhs is the weights, packed once at load time into panels of [`NR`] outputs ([`rhs`]). It may be f32, bf16, f16
//!   or quantized; it is converted to f32 as it is loaded.
//! - The micro-kernel computes one register tile, [`MR`] x [`NR`] accumulators ([`micro_kernel`], instantiated per
//!   instruction set in [`super::arch`]).
//! - A product is split into tasks for the threads, each of some rows, for the micro-kernel up to [`MC`], by some panels
//!   ([`tasks`]). The macro-kernel runs a task ([`macro_kernel`]).
//!
//! Attention uses the same micro-kernel for queries times keys and for weights times values.
//!
//! On processors with AMX ([`super::arch::amx`]), bf16 weights and the integers of most quantized types are multiplied in
//! tiles of bf16 numbers ([`tile_kernel`]). Its lhs is split into sums of three bf16 numbers ([`split_lhs`]), so that
//! activations keep their 24 bits. With [`MatmulPrecision::Bf16`] the lhs is rounded to bf16, while it is packed or split;
//! AVX512-BF16 ([`super::arch::avx512_bf16`]) then multiplies the same weights as AMX.
//!
//! [`MatmulPrecision::Bf16`]: crate::MatmulPrecision::Bf16
//!
//! Every accumulator is one sequence of additions by ascending depth. A row's result therefore depends only on the
//! row and the weights, not on other rows, the blocking or the thread count.

mod bf16_pairs;
pub(crate) mod lhs;
pub(crate) mod macro_kernel;
mod micro_kernel;
#[cfg(target_arch = "x86_64")]
mod numbers_block;
pub(crate) mod output;
#[cfg(target_arch = "x86_64")]
mod quantized_pairs;
#[cfg(target_arch = "x86_64")]
mod quantized_tiles;
pub(crate) mod rhs;
#[cfg(target_arch = "x86_64")]
pub(crate) mod split_lhs;
mod tasks;
#[cfg(target_arch = "x86_64")]
mod tile_kernel;

pub(crate) use bf16_pairs::Bf16Pairs;
#[cfg(target_arch = "x86_64")]
pub(crate) use bf16_pairs::TILE_PAIRS;
#[cfg(target_arch = "x86_64")]
pub(crate) use micro_kernel::PREFETCH_ROWS;
pub(crate) use micro_kernel::{check_micro_kernel, register_tile, widen};
pub(crate) use rhs::{PackedRhs, TileOperand};
#[cfg(target_arch = "x86_64")]
pub(crate) use tile_kernel::RowTileKernel;

/// Rows of a register tile. With [`NR`] columns it fills the 32 registers of AVX-512: 24 accumulators, 2 of the rhs, 1
/// of the lhs.
pub(crate) const MR: usize = 12;

/// Rows of the largest register tile for rhs types without [`PackedRhs::FULL_MR`].
pub(crate) const SMALL_MR: usize = 4;

/// Columns of a register tile and of a packed rhs panel: two vectors of AVX-512, four of AVX2, eight of NEON.
pub(crate) const NR: usize = 32;

/// Depth of a packed lhs micro-panel. This much of an rhs panel, 32 KiB of f32, stays in the cache while the
/// micro-panels of all row tiles of a task are multiplied with it. Results do not depend on it.
pub(crate) const KC: usize = 256;

/// The most rows of a task of the micro-kernel. All of them use an rhs panel while it is in the cache.
pub(crate) const MC: usize = 16 * MR;

/// Depth of a tile register of AMX that holds bf16 numbers.
pub(crate) const TILE_DEPTH: usize = 32;

/// One f32 per column of a panel.
pub(crate) type NrVector = [f32; NR];
