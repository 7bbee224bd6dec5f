//! The handle of a store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::backend::{Backend, FileError, Folder, Patience, Remote, RemoteError};
use crate::block;
use crate::breaker::{CircuitBreaker, Clock};
use crate::buffers::Buffers;
use crate::counts::{Counters, StoreCounts};
use crate::known::KnownBlocks;
use crate::options::StoreOptions;
use crate::prompt::{NewBlock, Prefix, PrefixEnd, WantedBlock};
use crate::read::{self, BYTES_AT_ONCE, WINDOW};
use crate::read_rate::ReadRate;
use crate::refresh;
use crate::shared::{LastError, Shared, Warnings};
use crate::store_url::Location;
use crate::write_queue::{NoPlace, Ticket, WriteQueue};
use crate::writer::{self, WRITES};
use crate::{BlockKey, StoreUrl};

/// The number of consecutive failed reads, or writes, that opens their circuit breaker.
const FAILURES: u32 = 3;

/// An open store. Clones share it.
///
/// Reads and writes run on a thread of the store, so the caller needs no tokio runtime. When the last clone is
/// dropped, writes that still wait are given up; [`flush`](Self::flush) waits for them.
#[derive(Clone)]
pub struct KvStore {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: WriteQueue,
    buffers: Buffers,
    /// Always there, except while this is dropped.
    runtime: Option<Runtime>,
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("the KV store {url} cannot be opened: {source}")]
    Folder {
        /// The store.
        url: StoreUrl,
        /// What failed.
        source: FileError,
    },
    /// The remote store cannot be set up. That it is down is not an error.
    #[error("the KV store {url} cannot be set up: {source}")]
    Remote {
        /// The store.
        url: StoreUrl,
        /// What is wrong.
        source: RemoteError,
    },
    /// [`StoreOptions::max_bytes`] is set for a store that is not a folder.
    #[error(
 "the size of the KV store {url} cannot be limited from here: only file stores can. Limit Redis \
         with its options maxmemory and maxmemory-policy allkeys-lru, and S3 with a lifecycle rule"
    )]
    MaxBytes {
        /// The store.
        url: StoreUrl,
        /// The limit.
        max_bytes: u64,
    },
    /// [`StoreOptions::timeout`] is zero, so that nothing could ever be read.
    #[error("the KV store {url} has a time-out of 0, expected a positive time")]
    Timeout {
        /// The store.
        url: StoreUrl,
    },
    /// The store's thread does not start.
    #[error("cannot start the thread of the KV store: {0}")]
    Thread(std::io::Error),
}

impl KvStore {
    /// Opens a store.
    ///
    /// The folder of a file store is created. A remote store is not connected yet: if it is down, reads return
    /// nothing until it is up.
    ///
    /// # Errors
    /// If a folder cannot be created or written, if the time-out is zero or the options of a remote store are invalid,
    /// or if no thread can be started.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        if options.timeout.is_zero() {
            return Err(OpenError::Timeout { url: options.url });
        }
        let (backend, evicted) = backend(&options)?;
        let store = Self::start(backend, &options, Box::new(Instant::now), Box::new(Instant::now))?;
        store.inner.shared.counters.evicted_blocks.add(evicted);
        Ok(store)
    }

    /// A store on `backend`. The clocks are those of the circuit breakers of reads and of writes.
    pub(crate) fn start(
        backend: Backend,
        options: &StoreOptions,
        reads: Clock,
        writes: Clock,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared {
            backend,
            name: options.url.to_string(),
            timeout: options.timeout,
            reads: CircuitBreaker::new("reads of the KV store", FAILURES, reads).into(),
            writes: CircuitBreaker::new("writes of the KV store", FAILURES, writes).into(),
            read_room: Semaphore::new(BYTES_AT_ONCE),
            known: KnownBlocks::new(),
            read_rate: ReadRate::default(),
            counters: Counters::default(),
            warnings: Warnings::default(),
            last_error: LastError::default(),
        });
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kv-store")
            // For files and checksums. Those that hang must not take the whole process's threads.
            .max_blocking_threads(WINDOW + WRITES)
            .enable_all()
            .build()
            .map_err(OpenError::Thread)?;
        let (queue, receiver) = WriteQueue::new(options.queue_bytes);
        runtime.spawn(writer::run(Arc::clone(&shared), receiver));
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                queue,
                buffers: Buffers::default(),
                runtime: Some(runtime),
            }),
        })
    }

    /// The payloads of the longest run of `wanted`, from the first block on, that is stored and verifies; in
    /// order. Each has `payload_len` bytes.
    ///
    /// It ends at `deadline`, or after [`StoreOptions::timeout`] if there is none: what has arrived in order by then
    /// is returned. While the circuit breaker is open it returns at once, empty. Errors of the store are logged and
    /// counted, and end the run.
    pub async fn read_prefix(
        &self,
        wanted: Vec<WantedBlock>,
        payload_len: usize,
        deadline: Option<Instant>,
    ) -> Prefix {
        let shared = Arc::clone(&self.inner.shared);
        let deadline = deadline.or_else(|| Instant::now().checked_add(shared.timeout));
        let deadline = deadline.map(tokio::time::Instant::from_std);
        let reading = read::read_prefix(shared, wanted, payload_len, deadline);
        let mut task = AbortOnDrop(self.inner.runtime().spawn(reading));
        (&mut task.0).await.unwrap_or_else(|error| {
            tracing::error!("the KV store's thread failed: {error}");
            Prefix { payloads: Vec::new(), end: PrefixEnd::Failed }
        })
    }

    /// Asks the store which of `keys` it has, without reading them, and returns how many of the first ones it has
    /// without a gap. Then [`is_known`](Self::is_known) says of each of them what the store said.
    ///
    /// It takes [`StoreOptions::timeout`] at most. If the store fails or takes longer, or while the circuit breaker of
    /// reads is open, nothing is forgotten, and those that are known by then count.
    pub async fn refresh_known(&self, keys: &[BlockKey]) -> usize {
        let shared = Arc::clone(&self.inner.shared);
        let asking = refresh::refresh_known(shared, keys.to_vec());
        let mut task = AbortOnDrop(self.inner.runtime().spawn(asking));
        (&mut task.0).await.unwrap_or_else(|error| {
            tracing::error!("the KV store's thread failed: {error}");
            0
        })
    }

    /// How long a read takes at most, unless its caller gives it a deadline: [`StoreOptions::timeout`].
    pub fn timeout(&self) -> Duration {
        self.inner.shared.timeout
    }

    /// Queues a block to be written and returns at once. `copy` appends its payload of `payload_len` bytes.
    ///
    /// A block that is [known](Self::is_known) or queued already is not written again. If the queue is full, or the
    /// circuit breaker is open, the block is dropped and counted. In these cases `copy` is not called.
    ///
    /// # Errors
    /// Those of `copy`.
    ///
    /// # Panics
    /// If `copy` appends another number of bytes.
    pub fn write<E>(
        &self,
        block: NewBlock<'_>,
        payload_len: usize,
        copy: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let NewBlock { key, tokens, index } = block;
        let Some(ticket) = self.place(key, tokens.len(), payload_len) else {
            return Ok(());
        };
        let mut block = block::begin(key, tokens, payload_len, &self.inner.buffers);
        let begin = block.len();
        copy(block.vec())?;
        assert_eq!(block.len() - begin, payload_len, "bytes of the payload");
        self.inner.queue.push(ticket, index, block);
        Ok(())
    }

    /// A place in the queue for a block. `None` if it is not to be written.
    fn place(&self, key: BlockKey, tokens: usize, payload_len: usize) -> Option<Ticket> {
        let shared = &self.inner.shared;
        if shared.known.contains(&key) {
            return None;
        }
        let len = block::encoded_len(tokens, payload_len);
        let dropped = if len.is_none_or(|len| len > shared.backend.longest_block()) {
            "it is larger than the store may be"
        } else {
            match self.inner.queue.place(key, payload_len) {
                Ok(ticket) if !shared.writes.refuses() => return Some(ticket),
                Ok(_) => "the circuit breaker is open",
                Err(NoPlace::Full) => "too many wait to be written",
                Err(NoPlace::Waits) => return None,
            }
        };
        shared.dropped(dropped);
        None
    }

    /// Whether the block was written or read by this handle lately, so that there is no need to copy it. Of the
    /// last 65,536 blocks at least, it is remembered unless a read has found since that it is gone.
    pub fn is_known(&self, key: &BlockKey) -> bool {
        self.inner.shared.known.contains(key)
    }

    /// Whether the block is [known](Self::is_known) or waits to be written.
    pub fn is_known_or_queued(&self, key: &BlockKey) -> bool {
        // In this order: a block that is written becomes known before it leaves the queue.
        self.inner.queue.contains(key) || self.is_known(key)
    }

    /// Waits until every block queued so far has been tried.
    pub async fn flush(&self) {
        self.inner.queue.flush().await;
    }

    /// Bytes of payload per second of the last reads in which blocks arrived. `None` before the first.
    pub fn read_rate(&self) -> Option<f64> {
        self.inner.shared.read_rate.get()
    }

    /// What the store has done so far.
    pub fn counts(&self) -> StoreCounts {
        let shared = &self.inner.shared;
        StoreCounts {
            read_circuit_open: shared.reads.is_open(),
            write_circuit_open: shared.writes.is_open(),
            queued_bytes: self.inner.queue.bytes() as u64,
            ..shared.counters.get()
        }
    }
}

/// The store that `options` name, and how many blocks were deleted to keep it within its size.
fn backend(options: &StoreOptions) -> Result<(Backend, u64), OpenError> {
    let StoreOptions { url, max_bytes, timeout, .. } = options;
    let remote = match &url.0 {
        Location::Folder(path) => {
            let folder = Folder::open(path.clone(), *max_bytes);
            let (folder, evicted) =
                folder.map_err(|source| OpenError::Folder { url: url.clone(), source })?;
            return Ok((Backend::Folder(Arc::new(folder)), evicted));
        }
        Location::Memory(name) => Remote::memory(name),
        // Each operation has a connection of its own, so that a large block does not hold up the others.
        Location::Redis(address) => {
            // Reads and writes have limits of their own, so that no answer needs one.
            Remote::redis(
                address,
                Patience { connect: *timeout / 2, answer: None },
                WINDOW + WRITES,
            )
        }
        #[cfg(feature = "s3")]
        Location::S3 { bucket, prefix } => Remote::s3(bucket, prefix),
    };
    if let Some(max_bytes) = *max_bytes {
        return Err(OpenError::MaxBytes { url: url.clone(), max_bytes });
    }
    let remote = remote.map_err(|source| OpenError::Remote { url: url.clone(), source })?;
    Ok((Backend::Remote(remote), 0))
}

impl Inner {
    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only drop takes it")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait for its tasks, which is forbidden in the async code that may run this.
            runtime.shutdown_background();
        }
    }
}

/// A task that nobody waits for any more is stopped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
