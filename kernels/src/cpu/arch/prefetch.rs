//! Software prefetch.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Where a line is wanted: in the L1 cache.
const L1: u8 = 0;
/// In the L1 cache, to be written.
const L1_WRITE: u8 = 1;
/// In the L2 cache.
const L2: u8 = 2;

/// Requests `data` into the L2 cache, on processors with a prefetch instruction. A hint only: it never blocks and
/// changes no result.
#[inline(always)]
pub(crate) fn prefetch<T>(data: &[T]) {
    prefetch_lines::<L2>(data.as_ptr().cast(), size_of_val(data));
}

/// Requests `data` into the L1 cache.
#[inline(always)]
pub(crate) fn prefetch_l1<T>(data: &[T]) {
    prefetch_lines::<L1>(data.as_ptr().cast(), size_of_val(data));
}

/// Requests `len` values from `start` on into the L1 cache, to be written. The addresses may be invalid.
#[inline(always)]
pub(crate) fn prefetch_for_write<T>(start: *const T, len: usize) {
    prefetch_lines::<L1_WRITE>(start.cast(), len * size_of::<T>());
}

/// Requests as many bytes as `data` has into the L2 cache, from `distance` bytes after its start on. The addresses may be
/// invalid.
#[inline(always)]
pub(crate) fn prefetch_at<T>(data: &T, distance: usize) {
    let start = (&raw const *data).cast::<u8>().wrapping_add(distance);
    prefetch_lines::<L2>(start, size_of::<T>());
}

#[inline(always)]
fn prefetch_lines<const TO: u8>(start: *const u8, len: usize) {
    for offset in (0..len).step_by(LINE) {
        prefetch_line::<TO>(start.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line<const TO: u8>(address: *const u8) {
    use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0, _MM_HINT_T1};
    let address: *const i8 = address.cast();
    // SAFETY: every x86-64 has the instructions, or ignores `prefetchw`; they accept any address. `prefetchw` is assembly
    // because the compiler replaces its intrinsic unless the whole function may use it.
    unsafe {
        match TO {
            L1 => _mm_prefetch::<_MM_HINT_T0>(address),
            L1_WRITE => {
                std::arch::asm!("prefetchw [{0}]", in(reg) address, options(nostack, preserves_flags, readonly))
            }
            _ => _mm_prefetch::<_MM_HINT_T1>(address),
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line<const TO: u8>(address: *const u8) {
    macro_rules! prefetch {
        ($operation:literal) => {
            std::arch::asm!(
                concat!("prfm ", $operation, ", [{0}]"),
                in(reg) address,
                options(nostack, preserves_flags, readonly),
            )
        };
    }
    // SAFETY: every aarch64 has the instruction, and it accepts any address.
    unsafe {
        match TO {
            L1 => prefetch!("pldl1keep"),
            L1_WRITE => prefetch!("pstl1keep"),
            _ => prefetch!("pldl2keep"),
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line<const TO: u8>(_address: *const u8) {}
