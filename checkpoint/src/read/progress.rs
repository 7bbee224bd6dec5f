//! Progress reports.

/// The progress of reading or writing weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights done.
    pub done: u64,
    /// Bytes of weights in all.
    pub total: u64,
}
