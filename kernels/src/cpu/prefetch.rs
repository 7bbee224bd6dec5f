//! Memory that will be read soon.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Has `numbers` brought into the second-level cache, on processors that can be asked to. The program goes on
/// meanwhile; nothing else changes.
#[inline(always)]
pub(crate) fn prefetch<T>(numbers: &[T]) {
    let start = numbers.as_ptr().cast::<u8>();
    for at in (0..size_of_val(numbers)).step_by(LINE) {
        prefetch_line(start.wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};
    // SAFETY: every x86-64 has the instruction, and it takes any address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    // SAFETY: every aarch64 has the instruction, and it takes any address.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly))
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line(_at: *const u8) {}
