//! Blocks that wait to be written.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, Notify};

use crate::buffers::Buffer;
use crate::BlockKey;

/// A block that waits to be written.
pub(crate) struct QueuedWrite {
    /// Without its checksum.
    pub block: Buffer,
    /// Its place in the prompt.
    pub index: usize,
    /// Dropped when the write has been tried.
    pub ticket: Ticket,
}

/// The end of the queue where blocks are put in.
pub(crate) struct WriteQueue {
    sender: mpsc::UnboundedSender<QueuedWrite>,
    waiting: Arc<Waiting>,
    longest: usize,
}

/// The writes that have not been tried yet.
#[derive(Default)]
struct Waiting {
    writes: Mutex<Writes>,
    tried: Notify,
}

#[derive(Default)]
struct Writes {
    bytes: usize,
    keys: HashSet<BlockKey>,
    /// Their numbers, in the order in which they were queued.
    numbers: BTreeSet<u64>,
    next: u64,
}

/// A place in the queue. It is free again when this is dropped.
pub(crate) struct Ticket {
    waiting: Arc<Waiting>,
    pub key: BlockKey,
    number: u64,
    /// Of the payload.
    pub bytes: usize,
}

/// Why a block gets no place in the queue.
pub(crate) enum NoPlace {
    /// It has one.
    Waits,
    /// Too many bytes wait.
    Full,
}

impl WriteQueue {
    /// A queue for payloads of `longest` bytes together, and the end where blocks are taken out.
    pub(crate) fn new(longest: usize) -> (Self, mpsc::UnboundedReceiver<QueuedWrite>) {
        // The bound is in bytes, which a bounded channel does not count.
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, waiting: Arc::default(), longest }, receiver)
    }

    /// A place for a block with a payload of `bytes` bytes.
    pub(crate) fn place(&self, key: BlockKey, bytes: usize) -> Result<Ticket, NoPlace> {
        let mut writes = self.waiting.lock();
        if writes.keys.contains(&key) {
            return Err(NoPlace::Waits);
        }
        if writes.bytes.saturating_add(bytes) > self.longest {
            return Err(NoPlace::Full);
        }
        let number = writes.next;
        writes.bytes += bytes;
        writes.next += 1;
        writes.keys.insert(key);
        writes.numbers.insert(number);
        drop(writes);
        Ok(Ticket { waiting: Arc::clone(&self.waiting), key, number, bytes })
    }

    /// Puts a block, without its checksum, in its place.
    pub(crate) fn push(&self, ticket: Ticket, index: usize, block: Buffer) {
        // Fails only if the writer has ended with its runtime; the ticket is then dropped here.
        let _ = self.sender.send(QueuedWrite { block, index, ticket });
    }

    /// Whether a block waits.
    pub(crate) fn contains(&self, key: &BlockKey) -> bool {
        self.waiting.lock().keys.contains(key)
    }

    /// Bytes of the payloads that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }

    /// Waits until all blocks that are in the queue now have been tried.
    pub(crate) async fn flush(&self) {
        let end = self.waiting.lock().next;
        loop {
            let tried = self.waiting.tried.notified();
            if self.waiting.lock().numbers.first().is_none_or(|first| *first >= end) {
                return;
            }
            tried.await;
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut writes = self.waiting.lock();
        writes.bytes -= self.bytes;
        writes.keys.remove(&self.key);
        writes.numbers.remove(&self.number);
        drop(writes);
        self.waiting.tried.notify_waiters();
    }
}
