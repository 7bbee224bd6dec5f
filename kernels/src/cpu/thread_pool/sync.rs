//! The synchronization primitives of [`super::job_slot`]. The loom test compiles that module against loom's versions of
//! them instead.

pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

/// `std::cell::UnsafeCell` with the interface of loom's.
#[derive(Default)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Iterations of a spin loop between two yields to the operating system.
pub(super) const SPINS_PER_YIELD: usize = 64;

/// One iteration of a spin loop.
pub(super) fn spin(spins: &mut usize) {
    *spins += 1;
    if spins.is_multiple_of(SPINS_PER_YIELD) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}
