//! [`KvStore`](crate::KvStore) on a store that fails as each test wants.

mod reads;
mod rests;
mod writes;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::backend::faulty::{Fault, Faulty};
use crate::backend::Backend;
use crate::{
    BlockKey, KvStore, NewBlock, Prefix, PrefixEnd, StoreCounts, StoreOptions, WantedBlock,
};

/// Bytes of each payload.
const LEN: usize = 100;

/// A store, the memory behind it, and the clocks of its circuit breakers.
struct Setup {
    store: KvStore,
    faulty: Arc<Faulty>,
    reads: Arc<Mutex<Instant>>,
    writes: Arc<Mutex<Instant>>,
}

/// Long enough that no operation without a fault ever takes so long.
const PATIENT: Duration = Duration::from_secs(60);

fn setup() -> Setup {
    with_options(PATIENT, 1 << 30)
}

fn with_options(timeout: Duration, queue_bytes: usize) -> Setup {
    let url = "memory:".parse().unwrap();
    let options = StoreOptions { url, max_bytes: None, timeout, queue_bytes };
    let faulty: Arc<Faulty> = Arc::default();
    let clock = || Arc::new(Mutex::new(Instant::now()));
    let (reads, writes) = (clock(), clock());
    let read = |clock: &Arc<Mutex<Instant>>| {
        let clock = Arc::clone(clock);
        Box::new(move || *clock.lock().unwrap())
    };
    let backend = Backend::Faulty(Arc::clone(&faulty));
    let store = KvStore::start(backend, &options, read(&reads), read(&writes)).unwrap();
    Setup { store, faulty, reads, writes }
}

impl Setup {
    /// A store that has these blocks.
    async fn stored(self, blocks: impl IntoIterator<Item = usize>) -> Self {
        blocks.into_iter().for_each(|i| self.write(i));
        self.store.flush().await;
        self
    }

    fn write(&self, i: usize) {
        self.write_payload(i, &payload(i));
    }

    fn write_payload(&self, i: usize, payload: &[u8]) {
        let Ok(()) = self.store.write(new_block(i, &tokens(i)), payload.len(), |block| {
            block.extend_from_slice(payload);
            Ok::<_, Infallible>(())
        });
    }

    /// Reads these blocks and checks those that are found. Returns their number.
    async fn read(&self, blocks: impl IntoIterator<Item = usize>) -> usize {
        self.read_until(blocks, None).await.payloads.len()
    }

    /// As [`read`](Self::read), with a deadline. Returns all that the store returned.
    async fn read_until(
        &self,
        blocks: impl IntoIterator<Item = usize>,
        deadline: Option<Instant>,
    ) -> Prefix {
        let blocks: Vec<usize> = blocks.into_iter().collect();
        let prefix = self.store.read_prefix(wanted(blocks.clone()), LEN, deadline).await;
        let found = prefix.payloads.len();
        let expected: Vec<Vec<u8>> = blocks.into_iter().take(found).map(payload).collect();
        assert_eq!(prefix.payloads, expected);
        prefix
    }

    /// How the read of these blocks ends.
    async fn end(&self, blocks: impl IntoIterator<Item = usize>) -> PrefixEnd {
        self.read_until(blocks, None).await.end
    }

    fn counts(&self) -> StoreCounts {
        self.store.counts()
    }

    fn fault(&self, i: usize, fault: Fault) {
        self.faulty.faults.lock().unwrap().insert(key(i), fault);
    }

    fn all_reads(&self, fault: Option<Fault>) {
        *self.faulty.reads_do.lock().unwrap() = fault;
    }

    fn all_writes(&self, fault: Option<Fault>) {
        *self.faulty.writes_do.lock().unwrap() = fault;
    }
}

fn pass(clock: &Mutex<Instant>, seconds: u64) {
    *clock.lock().unwrap() += Duration::from_secs(seconds);
}

fn key(i: usize) -> BlockKey {
    BlockKey(*blake3::hash(&i.to_le_bytes()).as_bytes())
}

fn tokens(i: usize) -> Vec<u32> {
    (0..16).map(|position| (16 * i + position) as u32).collect()
}

fn new_block(i: usize, tokens: &[u32]) -> NewBlock<'_> {
    NewBlock { key: key(i), tokens, index: i }
}

fn payload(i: usize) -> Vec<u8> {
    (0..LEN).map(|at| (i + 3 * at) as u8).collect()
}

fn wanted(blocks: impl IntoIterator<Item = usize>) -> Vec<WantedBlock> {
    blocks.into_iter().map(|i| WantedBlock { key: key(i), tokens: tokens(i), index: i }).collect()
}
