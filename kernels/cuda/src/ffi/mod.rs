//! The C declarations of the launchers. Each enqueues its work on a stream and returns a status, 0 on success.

use std::ffi::{c_char, c_int};

pub mod attention;
pub mod kv_write;
pub mod linear;

extern "C" {
    /// Describes a status: NUL-terminated, valid until this thread's next launch.
    pub fn colm_status_text(status: c_int) -> *const c_char;

    /// Lets the current device keep freed memory for later allocations. See `memory_pool.cu`.
    pub fn colm_keep_freed_memory() -> c_int;
}
