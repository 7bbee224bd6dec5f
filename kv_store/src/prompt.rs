//! The blocks of a prompt, as the engine asks for them and gets them.

use bytes::Bytes;

use crate::BlockKey;

/// A block that a prompt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBlock {
    /// Names it.
    pub key: BlockKey,
    /// The tokens of its positions.
    pub tokens: Vec<u32>,
    /// Its place in the prompt, from 0.
    pub index: usize,
}

/// A block to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewBlock<'a> {
    /// Names it.
    pub key: BlockKey,
    /// The tokens of its positions.
    pub tokens: &'a [u32],
    /// Its place in the prompt, from 0.
    pub index: usize,
}

/// What a read of a prompt's blocks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The payloads of the first blocks that were wanted, without a gap.
    pub payloads: Vec<Bytes>,
    /// Why there are no more.
    pub end: PrefixEnd,
}

/// How the blocks of a prompt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixEnd {
    /// All were found.
    Complete,
    /// The next one is not stored.
    Missing,
    /// The next one does not verify.
    Damaged,
    /// The store failed.
    Failed,
    /// The others did not arrive in time.
    TimedOut,
    /// The circuit breaker is open: the store was not asked.
    Refused,
}

impl PrefixEnd {
    /// Whether the store did what it should.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Complete | Self::Missing)
    }
}
