//! The launchers, as they stand in C. Each puts its work on a stream and returns 0, or a status.

use std::ffi::{c_char, c_int};

pub mod attention;
pub mod kv_write;
pub mod linear;

extern "C" {
    /// What a status says in words: NUL-terminated, of this thread until its next launch.
    pub fn colm_status_text(status: c_int) -> *const c_char;
}
