//! A store in memory that fails as tests want it to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

use super::BackendError;
use crate::BlockKey;

/// What goes wrong with an operation.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// It returns an error.
    Fail,
    /// It never returns.
    Hang,
    /// It takes this long.
    Slow(Duration),
    /// A read returns the block with this bit flipped, modulo its length.
    FlipBit(usize),
    /// A read returns the block of another key; a write does nothing and succeeds.
    Lie(BlockKey),
}

/// A store in memory. Without faults it works.
#[derive(Default)]
pub(crate) struct Faulty {
    pub blocks: Mutex<HashMap<BlockKey, Vec<u8>>>,
    /// What goes wrong with single keys.
    pub faults: Mutex<HashMap<BlockKey, Fault>>,
    /// What goes wrong with all other reads and writes.
    pub reads_do: Mutex<Option<Fault>>,
    pub writes_do: Mutex<Option<Fault>>,
    /// Reads and writes that were begun.
    pub reads: AtomicUsize,
    pub writes: AtomicUsize,
    /// Operations under way, now and at most.
    running: AtomicUsize,
    pub most_running: AtomicUsize,
}

impl Faulty {
    pub(super) async fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let _running = self.begin();
        let stored = |key| self.blocks.lock().unwrap().get(&key).cloned();
        match self.fault(key, &self.reads_do).await? {
            Some(Fault::FlipBit(bit)) => Ok(stored(key).map(|mut block| {
                let at = bit % (8 * block.len());
                block[at / 8] ^= 1 << (at % 8);
                block.into()
            })),
            Some(Fault::Lie(other)) => Ok(stored(other).map(Bytes::from)),
            _ => Ok(stored(key).map(Bytes::from)),
        }
    }

    pub(super) async fn write(&self, key: BlockKey, block: Vec<u8>) -> Result<(), BackendError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let _running = self.begin();
        if !matches!(self.fault(key, &self.writes_do).await?, Some(Fault::Lie(_))) {
            self.blocks.lock().unwrap().insert(key, block);
        }
        Ok(())
    }

    async fn fault(
        &self,
        key: BlockKey,
        all: &Mutex<Option<Fault>>,
    ) -> Result<Option<Fault>, BackendError> {
        let fault = self.faults.lock().unwrap().get(&key).copied();
        let fault = fault.or_else(|| *all.lock().unwrap());
        match fault {
            Some(Fault::Fail) => return Err(BackendError::Wanted),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            _ => {}
        }
        Ok(fault)
    }

    /// Operations under way.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn begin(&self) -> Running<'_> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        Running(self)
    }
}

struct Running<'a>(&'a Faulty);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
