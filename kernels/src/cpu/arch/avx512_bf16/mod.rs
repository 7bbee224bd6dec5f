//! AVX512-BF16: products of bf16 numbers in pairs of depths, on some processors without AMX.
//!
//! `vdpbf16ps` adds two products to each f32, a multiply-add one. On AMD's processors (Zen 4 and later) both are known to
//! have the same throughput; these kernels have not been measured on one. On an Intel Xeon with AMX a `vdpbf16ps` was
//! measured to take four times as long, so on Intel's processors they are used only on request.

mod numbers;
mod weights;

use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::isa_limit::{self, X86Isa};
use super::{amx, avx512};

pub(crate) use numbers::{add_packed_numbers, add_widened_numbers, WidenedNumbers, GROUP_ROWS};
pub(crate) use weights::PairProducts;

/// Whether the kernels use it: the processor has it and AVX-512 with BW, AMX is not available, and the vendor is AMD or
/// `COLM_MAX_CPU_ISA` names this instruction set.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let is_wanted = is_amd() || isa_limit::is_named(X86Isa::Avx512Bf16);
        has_instructions()
            && is_wanted
            && isa_limit::allows(X86Isa::Avx512Bf16)
            && !amx::is_available()
    })
}

/// Whether the processor has it, and AVX-512 with BW.
pub(crate) fn has_instructions() -> bool {
    avx512::is_available_with_bw() && is_x86_feature_detected!("avx512bf16")
}

/// Whether CPUID names AMD as the vendor.
pub(super) fn is_amd() -> bool {
    // SAFETY: every x86-64 has CPUID. The function is safe in newer versions of Rust.
    #[allow(unused_unsafe)]
    let leaf = unsafe { __cpuid(0) };
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// Words as bf16 numbers.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(always)]
unsafe fn as_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both types are 64 bytes of any value.
    unsafe { std::mem::transmute(words) }
}
