//! Instruction sets, chosen at run time: a build for any x86-64 uses AVX-512 or AVX2 where the processor has them and
//! [`isa_limit`] allows them.
//!
//! The compiler vectorizes elementwise loops once it may use the instructions. It does not do so reliably for the GEMM
//! micro-kernel, so that is written with intrinsics behind [`SimdVector`]. Linear layers and attention are both built
//! on [`Isa::micro_kernel`]. [`amx`] multiplies bf16 and quantized weights in its place on the processors that have it, and
//! [`avx512_bf16`] the same weights with activations rounded to bf16.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_bf16;
#[cfg(target_arch = "x86_64")]
pub(crate) mod bf16_terms;
#[cfg(target_arch = "x86_64")]
pub(crate) mod group_products;
mod isa_limit;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod prefetch;
mod simd;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use avx2::Avx2;
pub use isa_limit::{check_isa_limit, IsaLimitError};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
pub(crate) use prefetch::{prefetch, prefetch_at, prefetch_for_write, prefetch_l1};
pub(crate) use simd::SimdVector;

use super::gemm::{NrVector, PackedRhs, TileOperand};
use crate::MatmulPrecision;

/// Width of the accumulators in elementwise reductions.
pub(crate) const LANES: usize = 16;

/// One number per lane.
pub(crate) type Lanes = [f32; LANES];

/// The sum of all lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum(mut lanes: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// An instruction set for computations in f32. Results depend only on whether multiply-add is fused: all instruction sets
/// that fuse give the same bits.
pub(crate) trait Isa {
    /// `a * b + c`.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;

    /// The GEMM micro-kernel: `acc[row][column] += lhs[row][depth] * rhs[depth][column]`, by ascending depth.
    ///
    /// # Panics
    /// If `lhs` and `acc` differ in length or have more than [`MR`](super::gemm::MR) rows, or if `rhs` is deeper than
    /// `DEPTH`.
    fn micro_kernel<W: PackedRhs, const DEPTH: usize>(
        lhs: &[[f32; DEPTH]],
        rhs: &[W],
        acc: &mut [NrVector],
    );

    /// Converts a packed rhs panel to f32: one vector of columns per depth.
    ///
    /// # Panics
    /// If the length of `to` is not the depth of `rhs`.
    fn widen<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]);
}

/// A computation that is compiled once per instruction set. `run` and everything it calls must be `#[inline(always)]` or
/// have the `target_feature`s of the instruction set; another function is compiled for the baseline.
pub(crate) trait IsaKernel {
    type Output;

    fn run<I: Isa>(self) -> Self::Output;
}

/// The name of the instruction set that the kernels use, within the limit of `COLM_MAX_CPU_ISA`.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if amx::is_available() {
            return "AVX-512 and AMX";
        }
        if avx512_bf16::is_available() {
            return "AVX-512 and AVX512-BF16";
        }
        if avx512::is_available() {
            return "AVX-512";
        }
        if avx2::is_available() {
            return "AVX2";
        }
    }
    if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "none (portable code)"
    }
}

/// Two processes compute the same keys and values, bit for bit, if their roundings are equal, and with it the weights, the
/// dtypes and the block size. The number counts the changes of the kernels that change results or the order of the
/// numbers in a KV block.
pub fn rounding(precision: MatmulPrecision) -> String {
    let fused = cfg!(target_arch = "aarch64") || instruction_set().starts_with("AVX");
    let mut rounding = format!("cpu 1, multiply-add {}fused", if fused { "" } else { "not " });
    #[cfg(target_arch = "x86_64")]
    if amx::is_available() {
        rounding += ", bf16 and quantized weights on AMX";
    } else if multiplies_bf16(TileOperand::Weights, precision) {
        // The vendors may round differently.
        let vendor = if avx512_bf16::is_amd() { "AMD" } else { "Intel" };
        rounding += &format!(", bf16 and quantized weights by vdpbf16ps of {vendor}");
    }
    if precision == MatmulPrecision::Bf16 {
        rounding += ", activations rounded to bf16";
    }
    rounding
}

/// Whether this operand is multiplied as bf16 numbers, with activations at this precision.
pub(crate) fn multiplies_bf16(operand: TileOperand, precision: MatmulPrecision) -> bool {
    #[cfg(target_arch = "x86_64")]
    return match (operand, precision) {
        (TileOperand::None, _) => false,
        (_, MatmulPrecision::F32) => amx::is_available(),
        (_, MatmulPrecision::Bf16) => amx::is_available() || avx512_bf16::is_available(),
    };
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (operand, precision);
        false
    }
}

/// Runs `kernel` with the best instruction set.
pub(crate) fn run<K: IsaKernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::is_available() {
            // SAFETY: the processor has the features of `avx512::run`.
            return unsafe { avx512::run(kernel) };
        }
        if avx2::is_available() {
            // SAFETY: the processor has the features of `avx2::run`.
            return unsafe { avx2::run(kernel) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    return kernel.run::<Neon>();
    #[cfg(not(target_arch = "aarch64"))]
    kernel.run::<Portable>()
}
