//! Buffers of blocks that are used again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers of blocks that have been written.
///
/// Allocators return large buffers to the system, and the next copy of a block would fault in each of its pages again,
/// while the engine waits between two steps.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Spare>>);

#[derive(Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Their capacities together.
    bytes: usize,
}

/// The most bytes that are kept to be used again.
const MOST_BYTES: usize = 32 << 20;

/// The address of a buffer is a multiple of this: file systems require it for writes past the page cache.
pub(crate) const ALIGNMENT: usize = 4096;

impl Buffers {
    /// An empty buffer with room for `capacity` bytes.
    pub(crate) fn take(&self, capacity: usize) -> Buffer {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        bytes.clear();
        bytes.reserve_exact(capacity + ALIGNMENT);
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        bytes.resize(start, 0);
        Buffer { bytes, start, origin: self.clone() }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.bytes + bytes.capacity() <= MOST_BYTES {
            spare.bytes += bytes.capacity();
            spare.buffers.push(bytes);
        }
    }
}

impl Spare {
    fn take(&mut self) -> Vec<u8> {
        let bytes = self.buffers.pop().unwrap_or_default();
        self.bytes -= bytes.capacity();
        bytes
    }
}

/// A buffer that goes back to its [`Buffers`] when it is dropped.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// The index of the first byte. Those before it are padding.
    start: usize,
    origin: Buffers,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.origin.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Buffer {
    /// The vector behind it, for appending as many bytes as there is room for.
    pub(crate) fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// For [`bytes::Bytes::from_owner`].
impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        let buffers = Buffers::default();
        let mut first = buffers.take(1000);
        first.vec().extend_from_slice(&[7; 1000]);
        let address = first.as_ptr();
        assert!(*first == [7; 1000] && address.align_offset(ALIGNMENT) == 0);
        drop(bytes::Bytes::from_owner(first));
        let second = buffers.take(900);
        assert!(second.is_empty() && second.as_ptr() == address);
        assert_ne!(buffers.take(900).as_ptr(), address);
    }

    #[test]
    fn few_bytes_are_kept() {
        let buffers = Buffers::default();
        let many: Vec<Buffer> = (0..10).map(|_| buffers.take(MOST_BYTES / 4)).collect();
        drop(many);
        let spare = buffers.0.lock().unwrap();
        assert_eq!(spare.buffers.len(), 3, "each has room for its alignment as well");
        assert_eq!(spare.bytes, 3 * (MOST_BYTES / 4 + ALIGNMENT));
    }
}
