//! Blocks that wait to be written.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, Notify};

use crate::BlockKey;

/// A block that waits to be written.
pub(crate) struct QueuedWrite {
    pub key: BlockKey,
    pub tokens: Vec<u32>,
    pub payload: Vec<u8>,
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

/// A place in the queue.
pub(crate) struct Ticket {
    waiting: Arc<Waiting>,
    key: BlockKey,
    number: u64,
    bytes: usize,
}

impl WriteQueue {
    /// A queue for payloads of `longest` bytes together, and the end where blocks are taken out.
    pub(crate) fn new(longest: usize) -> (Self, mpsc::UnboundedReceiver<QueuedWrite>) {
        // The bound is in bytes, which a bounded channel does not count.
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, waiting: Arc::default(), longest }, receiver)
    }

    /// Whether [`push`](Self::push) would append a block with this key and `bytes` bytes; `None` if it waits already.
    pub(crate) fn has_room(&self, key: &BlockKey, bytes: usize) -> Option<bool> {
        let writes = self.waiting.lock();
        (!writes.keys.contains(key)).then(|| writes.bytes.saturating_add(bytes) <= self.longest)
    }

    /// Appends a block. False if there is no room.
    pub(crate) fn push(&self, key: BlockKey, tokens: Vec<u32>, payload: Vec<u8>) -> bool {
        let mut writes = self.waiting.lock();
        if writes.keys.contains(&key) {
            return true;
        }
        let bytes = writes.bytes + payload.len();
        if bytes > self.longest {
            return false;
        }
        let number = writes.next;
        writes.bytes = bytes;
        writes.next += 1;
        writes.keys.insert(key);
        writes.numbers.insert(number);
        let ticket =
            Ticket { waiting: Arc::clone(&self.waiting), key, number, bytes: payload.len() };
        drop(writes);
        // Fails only if the writer has ended with its runtime; the ticket is then dropped here.
        let _ = self.sender.send(QueuedWrite { key, tokens, payload, ticket });
        true
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
