//! Memory on huge pages.
//!
//! A product of one row reads each weight once and waits for memory. On 4 KiB pages it also waits for address
//! translations, and the prefetcher of the processor stops at the end of every page.

/// `len` copies of `value`, on huge pages where the system grants them. With fewer bytes than a huge page there is
/// nothing to gain, and a system that grants none uses pages of the usual size.
pub(crate) fn filled_on_huge_pages<T: Clone>(len: usize, value: T) -> Vec<T> {
    let mut data = Vec::with_capacity(len);
    // Before the first write, which allocates the pages.
    advise(&mut data);
    data.resize(len, value);
    data
}

#[cfg(target_os = "linux")]
fn advise<T>(data: &mut Vec<T>) {
    /// The largest size of a usual page.
    const PAGE: usize = 1 << 16;
    let start = data.as_mut_ptr().cast::<u8>();
    let bytes = data.capacity() * size_of::<T>();
    let skipped = start.align_offset(PAGE);
    let whole_pages = bytes.saturating_sub(skipped) / PAGE * PAGE;
    if whole_pages > 0 {
        // SAFETY: the pages are within the allocation, and the advice changes no contents. Its result does not matter,
        // because it is a hint.
        unsafe { libc::madvise(start.add(skipped).cast(), whole_pages, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_data: &mut Vec<T>) {}
