//! The numbers of the KV store.

use metrics::{Counter, Gauge};

use super::names;
use crate::host::kv_tier::KvTierCounts;

/// One of the numbers.
type NumberOf = fn(&KvTierCounts) -> u64;

/// The numbers of a KV store. Servers without one do not show them.
pub(super) struct KvStoreNumbers {
    counters: Vec<(Counter, NumberOf)>,
    read_circuit_open: Gauge,
    write_circuit_open: Gauge,
    queued_bytes: Gauge,
}

impl KvStoreNumbers {
    pub(super) fn new() -> Self {
        let table: [(&'static str, NumberOf); 17] = [
            (names::KV_STORE_READS, |counts| counts.reads as u64),
            (names::KV_STORE_READ_MILLISECONDS, |counts| counts.read_time.as_millis() as u64),
            (names::KV_STORE_SKIPPED_READS, |counts| counts.skipped_reads as u64),
            (names::KV_STORE_LOADED_BLOCKS, |counts| counts.loaded_blocks as u64),
            (names::KV_STORE_READ_BLOCKS, |counts| counts.store.read_blocks),
            (names::KV_STORE_MISSING_BLOCKS, |counts| counts.store.missing_blocks),
            (names::KV_STORE_DAMAGED_BLOCKS, |counts| counts.store.damaged_blocks),
            (names::KV_STORE_TIMED_OUT_READS, |counts| counts.store.timed_out_reads),
            (names::KV_STORE_FAILED_READS, |counts| counts.store.failed_reads),
            (names::KV_STORE_WRITTEN_BLOCKS, |counts| counts.store.written_blocks),
            (names::KV_STORE_FAILED_WRITES, |counts| counts.store.failed_writes),
            (names::KV_STORE_DROPPED_BLOCKS, |counts| counts.store.dropped_blocks),
            (names::KV_STORE_EVICTED_BLOCKS, |counts| counts.store.evicted_blocks),
            (names::REMOTE_PREFILLS, |counts| counts.prefills as u64),
            (names::FAILED_REMOTE_PREFILLS, |counts| counts.failed_prefills as u64),
            (names::KV_STORE_READ_BYTES, |counts| counts.store.bytes_read),
            (names::KV_STORE_WRITTEN_BYTES, |counts| counts.store.bytes_written),
        ];
        Self {
            counters: table.map(|(name, number)| (metrics::counter!(name), number)).into(),
            read_circuit_open: metrics::gauge!(names::KV_STORE_READ_CIRCUIT_OPEN),
            write_circuit_open: metrics::gauge!(names::KV_STORE_WRITE_CIRCUIT_OPEN),
            queued_bytes: metrics::gauge!(names::KV_STORE_QUEUED_BYTES),
        }
    }

    pub(super) fn read(&self, counts: &KvTierCounts) {
        for (counter, number) in &self.counters {
            counter.absolute(number(counts));
        }
        self.read_circuit_open.set(f64::from(u8::from(counts.store.read_circuit_open)));
        self.write_circuit_open.set(f64::from(u8::from(counts.store.write_circuit_open)));
        self.queued_bytes.set(counts.store.queued_bytes as f64);
    }
}
