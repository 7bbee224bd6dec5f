//! What a store has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a handle's store has done since it was opened. All but the last three only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Blocks that reads returned.
    pub read_blocks: u64,
    /// Blocks that reads did not find: the first one missing and all that were wanted after it.
    pub missing_blocks: u64,
    /// Blocks that were found and did not verify. Each counts as missing too.
    pub damaged_blocks: u64,
    /// Reads of a prompt's blocks that the time-out ended.
    pub timed_out_reads: u64,
    /// Reads of a prompt's blocks that an error of the store ended.
    pub failed_reads: u64,
    /// Blocks written.
    pub written_blocks: u64,
    /// Writes that failed or took too long.
    pub failed_writes: u64,
    /// Blocks that were not written because the queue was full, the circuit breaker was open, or the block
    /// was too large.
    pub dropped_blocks: u64,
    /// Blocks that a file store deleted to stay within its size.
    pub evicted_blocks: u64,
    /// Bytes of the payloads that reads returned.
    pub bytes_read: u64,
    /// Bytes of the payloads that were written.
    pub bytes_written: u64,
    /// Whether the circuit breaker of reads is open: they failed, and the store is not asked for a while.
    pub read_circuit_open: bool,
    /// Whether the circuit breaker of writes is open.
    pub write_circuit_open: bool,
    /// Bytes of the payloads that wait to be written.
    pub queued_bytes: u64,
}

/// [`StoreCounts`] while they grow.
#[derive(Default)]
pub(crate) struct Counters {
    pub read_blocks: Counter,
    pub missing_blocks: Counter,
    pub damaged_blocks: Counter,
    pub timed_out_reads: Counter,
    pub failed_reads: Counter,
    pub written_blocks: Counter,
    pub failed_writes: Counter,
    pub dropped_blocks: Counter,
    pub evicted_blocks: Counter,
    pub bytes_read: Counter,
    pub bytes_written: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The counts. What does not only grow is left out.
    pub(crate) fn get(&self) -> StoreCounts {
        StoreCounts {
            read_blocks: self.read_blocks.get(),
            missing_blocks: self.missing_blocks.get(),
            damaged_blocks: self.damaged_blocks.get(),
            timed_out_reads: self.timed_out_reads.get(),
            failed_reads: self.failed_reads.get(),
            written_blocks: self.written_blocks.get(),
            failed_writes: self.failed_writes.get(),
            dropped_blocks: self.dropped_blocks.get(),
            evicted_blocks: self.evicted_blocks.get(),
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
            ..StoreCounts::default()
        }
    }
}
