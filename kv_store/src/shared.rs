//! What the handle and the tasks of a store share.

use std::fmt::Arguments;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::backend::{Backend, BackendError};
use crate::block::DamagedBlock;
use crate::breaker::CircuitBreaker;
use crate::counts::Counters;
use crate::known::KnownBlocks;
use crate::log_limit::LogLimit;
use crate::read_rate::ReadRate;
use crate::BlockKey;

/// An open store.
pub(crate) struct Shared {
    pub backend: Backend,
    /// For logs.
    pub name: String,
    /// Of a read of a prompt's blocks.
    pub timeout: Duration,
    /// Reads and writes have a circuit each: a full disk must not keep blocks from being read.
    pub reads: Arc<CircuitBreaker>,
    pub writes: Arc<CircuitBreaker>,
    /// A permit for each byte that is being read.
    pub read_room: Semaphore,
    pub known: KnownBlocks,
    pub read_rate: ReadRate,
    pub counters: Counters,
    pub warnings: Warnings,
    pub last_error: LastError,
}

/// The last error of the store, and when it was.
#[derive(Default)]
pub(crate) struct LastError(Mutex<Option<(Instant, String)>>);

/// How often each kind of warning is logged.
#[derive(Default)]
pub(crate) struct Warnings {
    pub damaged: LogLimit,
    pub undeleted: LogLimit,
    pub failed_read: LogLimit,
    pub timed_out_read: LogLimit,
    pub failed_write: LogLimit,
    pub dropped: LogLimit,
}

impl Shared {
    /// A block was found that does not verify.
    pub(crate) fn damaged(&self, key: BlockKey, damage: &DamagedBlock) {
        self.counters.damaged_blocks.add(1);
        if let Some(left_out) = self.warnings.damaged.permit() {
            tracing::warn!(left_out, "KV store {}: block {key} is damaged: {damage}", self.name);
        }
    }

    /// Deletes a block that does not verify. If that fails, it stays: it is absent for reads in any case.
    pub(crate) async fn discard(&self, key: BlockKey) {
        if let Err(error) = self.backend.discard(key).await {
            if let Some(left_out) = self.warnings.undeleted.permit() {
                tracing::warn!(left_out, "KV store {}: a damaged block stays: {error}", self.name);
            }
        }
    }

    pub(crate) fn read_failed(&self, error: &BackendError) {
        self.counters.failed_reads.add(1);
        self.last_error.set(error);
        self.forget_after_error();
        if let Some(left_out) = self.warnings.failed_read.permit() {
            tracing::warn!(left_out, "KV store {}: a read failed: {error}", self.name);
        }
    }

    pub(crate) fn read_timed_out(&self, what: Arguments<'_>, time: Duration) {
        self.counters.timed_out_reads.add(1);
        if let Some(left_out) = self.warnings.timed_out_read.permit() {
            let (name, error) = (&self.name, self.last_error.describe());
            tracing::warn!(left_out, "KV store {name}: {what} in {time:.1?}{error}");
        }
    }

    pub(crate) fn write_failed(&self, key: BlockKey, error: &dyn std::fmt::Display) {
        self.counters.failed_writes.add(1);
        self.last_error.set(error);
        self.forget_after_error();
        if let Some(left_out) = self.warnings.failed_write.permit() {
            tracing::warn!(left_out, "KV store {}: cannot write block {key}: {error}", self.name);
        }
    }

    pub(crate) fn dropped(&self, reason: &str) {
        self.counters.dropped_blocks.add(1);
        if let Some(left_out) = self.warnings.dropped.permit() {
            tracing::warn!(left_out, "KV store {}: a block was not written: {reason}", self.name);
        }
    }

    fn forget_after_error(&self) {
        if self.backend.may_have_lost_blocks() {
            self.known.clear();
        }
    }
}

impl LastError {
    fn set(&self, error: &dyn std::fmt::Display) {
        let error = Some((Instant::now(), error.to_string()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// For the end of a line of the log.
    fn describe(&self) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, error)) => format!(". Its last error, {:.0?} ago: {error}", at.elapsed()),
            None => String::new(),
        }
    }
}
