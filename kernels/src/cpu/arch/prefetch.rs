//! Software prefetch.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Requests `data` into the L2 cache, on processors with a prefetch instruction. A hint only: it never blocks and
/// changes no result.
#[inline(always)]
pub(crate) fn prefetch<T>(data: &[T]) {
    prefetch_bytes(data.as_ptr().cast(), size_of_val(data));
}

/// Requests as many bytes as `data` has, from `distance` bytes after its start on. The addresses may be invalid.
#[inline(always)]
pub(crate) fn prefetch_at<T>(data: &T, distance: usize) {
    prefetch_bytes((&raw const *data).cast::<u8>().wrapping_add(distance), size_of::<T>());
}

#[inline(always)]
fn prefetch_bytes(start: *const u8, len: usize) {
    for offset in (0..len).step_by(LINE) {
        prefetch_line(start.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(address: *const u8) {
    use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};
    // SAFETY: every x86-64 has the instruction, and it accepts any address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line(address: *const u8) {
    // SAFETY: every aarch64 has the instruction, and it accepts any address.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly))
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line(_address: *const u8) {}
