//! The store between requests, the scheduler and the pool of blocks.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use candle_core::{Result, Tensor};
use colm_checkpoint::{ChainCount, ColmConfig};
use colm_kernels::KvBlocks;
use colm_kv_store::{BlockKey, KvStore, NewBlock, OpenError, StoreCounts};
use mistralrs_core::ext::{
    compute_block_hashes, BlockHash, BlockStore, Extension, ExtraHashKey, PooledBlock,
};
use tokio::sync::Semaphore;
use tracing::warn;

use super::fetched::Fetched;
use super::options::KvStoreOptions;
use super::prefill_server::PrefillServer;
use crate::error::Error;
use crate::host::loaded::Loaded;
use crate::host::request_options::RequestOptions;

/// The memory of fetched blocks is counted in units of this many bytes.
pub(super) const MEMORY_UNIT: usize = 1024;

/// How long after its answer the blocks of a prompt may be missing in the prefix cache.
const CACHED_AFTER: Duration = Duration::from_secs(2);

/// If no block enters the prefix cache for so long, those of earlier steps are in it.
const SETTLED_AFTER: Duration = Duration::from_millis(50);

/// The second tier of the prefix cache of one engine.
pub struct KvTier {
    pub(super) store: KvStore,
    pub(super) loaded: Arc<Loaded>,
    /// The pool, layer by layer.
    pool: Vec<KvBlocks>,
    pub(super) block_size: usize,
    /// The hashes of the prefix cache in the pool, whose blocks need not be read.
    pooled: Mutex<HashSet<BlockHash>>,
    /// Memory that fetched blocks may take, in units of [`MEMORY_UNIT`].
    pub(super) memory: Arc<Semaphore>,
    pub(super) always_read: bool,
    pub(super) prefill_server: Option<PrefillServer>,
    paused: AtomicBool,
    loaded_blocks: AtomicUsize,
    pub(super) skipped_reads: AtomicUsize,
    pub(super) reads: AtomicUsize,
    /// How often blocks have entered the prefix cache.
    added: AtomicUsize,
    pub(super) read_microseconds: AtomicU64,
}

/// What the store and the tier have done so far.
#[derive(Clone, Copy, Debug)]
pub struct KvTierCounts {
    /// Of the store.
    pub store: StoreCounts,
    /// Blocks that were copied from the store into the pool.
    pub loaded_blocks: usize,
    /// Prompts that were not looked up, because computing them is faster or because too many others were being read.
    pub skipped_reads: usize,
    /// Prompts that were looked up.
    pub reads: usize,
    /// How long they have waited for the store, all together.
    pub read_time: Duration,
    /// Prompts that the prefill server was asked for.
    pub prefills: usize,
    /// Those of them that it did not compute.
    pub failed_prefills: usize,
}

impl KvTier {
    /// Opens the store. `pool` is the KV cache of the engine, whose model and identity are in `loaded`.
    ///
    /// # Errors
    /// If the options are wrong or the store cannot be opened.
    pub fn open(
        options: &KvStoreOptions,
        loaded: Arc<Loaded>,
        pool: &[(Tensor, Tensor)],
        block_size: usize,
    ) -> anyhow::Result<Self> {
        let (config, _) = loaded.model().context("no model is loaded")?;
        let pool = pool
            .iter()
            .map(|(keys, values)| KvBlocks::from_tensors(keys, values, config.head_dim))
            .collect::<Result<_>>()?;
        let store = KvStore::open(options.store_options()?).map_err(|error| {
            let (option, value) = match &error {
                OpenError::MaxBytes { max_bytes, .. } => {
                    ("kv_store_max_bytes", format!("{max_bytes} bytes"))
                }
                _ => ("kv_store", options.url().to_string()),
            };
            Error::InvalidOption { option, value, problem: error.to_string() }
        })?;
        let prefill_server = options.prefill_server.as_ref().map(PrefillServer::new).transpose()?;
        let units = (options.buffer_bytes() / MEMORY_UNIT).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            store,
            loaded,
            pool,
            block_size,
            pooled: Mutex::default(),
            memory: Arc::new(Semaphore::new(units)),
            always_read: options.always_read,
            prefill_server,
            paused: AtomicBool::new(false),
            loaded_blocks: AtomicUsize::new(0),
            skipped_reads: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            added: AtomicUsize::new(0),
            read_microseconds: AtomicU64::new(0),
        })
    }

    /// Asks the store which blocks of a prompt it has, for an answer at `k` chains. Those of the pool that it has lost are
    /// written again when the prompt is admitted.
    pub async fn refresh_stored(&self, prompt: &[u32], k: ChainCount) {
        if let Some(identity) = self.loaded.kv_identity() {
            let keys: Vec<_> = self.hashes(prompt, identity.salt(k)).iter().map(key_of).collect();
            self.store.refresh_known(&keys).await;
        }
    }

    /// Waits until the full blocks of a prompt that has been computed at `k` chains are in the store, and returns how many
    /// tokens they hold. Blocks that could not be written do not count.
    pub async fn stored_tokens(&self, prompt: &[u32], k: ChainCount) -> usize {
        let Some(identity) = self.loaded.kv_identity() else { return 0 };
        let hashes = self.hashes(prompt, identity.salt(k));
        // The scheduler adds the last blocks to the prefix cache when it plans the next step. In the same step it may
        // need their place for another prompt; then they are still in the store's queue.
        let was_cached = |index: usize| {
            let hash = &hashes[index];
            self.store.is_known_or_queued(&key_of(hash)) || self.pooled().contains(hash)
        };
        wait_until_each_seen(hashes.len(), was_cached, CACHED_AFTER).await;
        self.store.flush().await;
        let stored = hashes.iter().take_while(|hash| self.store.is_known(&key_of(hash))).count();
        stored * self.block_size
    }

    /// Waits until the blocks computed so far have been written, or have failed.
    pub async fn flush(&self) {
        // The scheduler adds the last blocks of an answer after the answer has ended.
        let (began, mut seen) = (Instant::now(), None);
        while began.elapsed() < CACHED_AFTER {
            let added = self.added.load(Ordering::Relaxed);
            if seen.replace(added) == Some(added) {
                break;
            }
            tokio::time::sleep(SETTLED_AFTER).await;
        }
        self.store.flush().await;
    }

    /// Leaves the store alone while `paused`.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// What has been done so far.
    pub fn counts(&self) -> KvTierCounts {
        KvTierCounts {
            store: self.store.counts(),
            loaded_blocks: self.loaded_blocks.load(Ordering::Relaxed),
            skipped_reads: self.skipped_reads.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            read_time: Duration::from_micros(self.read_microseconds.load(Ordering::Relaxed)),
            prefills: self.prefill_server.as_ref().map_or(0, PrefillServer::begun),
            failed_prefills: self.prefill_server.as_ref().map_or(0, PrefillServer::failed),
        }
    }

    /// The hashes of the full blocks of `prompt` that need not be computed: the last token is, for its logits.
    pub(super) fn hashes(&self, prompt: &[u32], salt: &str) -> Vec<BlockHash> {
        let reusable = &prompt[..prompt.len().saturating_sub(1)];
        let salt = ExtraHashKey::CacheSalt(salt.into());
        compute_block_hashes(reusable, self.block_size, &[], &[salt])
    }

    /// The index of the first hash that the pool does not have.
    pub(super) fn first_missing(&self, hashes: &[BlockHash]) -> usize {
        let pooled = self.pooled();
        hashes.iter().position(|hash| !pooled.contains(hash)).unwrap_or(hashes.len())
    }

    fn pooled(&self) -> MutexGuard<'_, HashSet<BlockHash>> {
        self.pooled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key/value heads that an answer at `k` chains writes.
    pub(super) fn heads(&self, k: usize) -> Option<usize> {
        self.loaded.model().map(|(config, _): (&ColmConfig, _)| config.kv_heads.first(k))
    }

    pub(super) fn bytes_per_block(&self, heads: usize) -> usize {
        self.pool.iter().map(|layer| layer.bytes_per_block(heads)).sum()
    }

    /// Queues the blocks of a sequence with `salt` that the store does not have.
    fn write_all_behind(&self, salt: Option<&str>, blocks: &[PooledBlock]) {
        let chains = salt.and_then(|salt| self.loaded.kv_identity()?.chains_of(salt));
        let heads = chains.and_then(|chains| self.heads(chains));
        if let Some(heads) = heads.filter(|_| !self.is_paused()) {
            let bytes = self.bytes_per_block(heads);
            blocks.iter().for_each(|block| self.write_behind(block, heads, bytes));
        }
    }

    /// Queues a block of the pool for the store, if the store does not have it. It has `bytes` bytes.
    fn write_behind(&self, block: &PooledBlock, heads: usize, bytes: usize) {
        let key = key_of(&block.hash);
        let new = NewBlock { key, tokens: block.tokens, index: block.index };
        let queued = self.store.write(new, bytes, |copy| {
            self.pool.iter().try_for_each(|layer| layer.read_block(block.block_id, heads, copy))
        });
        if let Err(error) = queued {
            warn!("a KV block cannot be copied: {error}");
        }
    }

    /// Copies what [`Self::write_behind`] has copied into a block of the pool.
    fn write(&self, block: usize, heads: usize, mut bytes: &[u8]) -> Result<()> {
        for layer in &self.pool {
            let (own, rest) = bytes.split_at(layer.bytes_per_block(heads));
            layer.write_block(block, heads, own)?;
            bytes = rest;
        }
        Ok(())
    }
}

impl BlockStore for KvTier {
    fn load(&self, extension: Option<&Extension>, blocks: &[PooledBlock]) -> usize {
        let fetched = RequestOptions::of(extension).and_then(|options| options.fetched.as_ref());
        let Some(fetched) = fetched.and_then(Fetched::take) else { return 0 };
        let Some(first) = blocks.first() else { return 0 };
        // The pool may have more blocks of the prompt than when they were fetched. If it has fewer, there is a gap.
        let from = fetched.blocks.iter().skip_while(|(hash, _)| *hash != first.hash);
        let same = blocks.iter().zip(from).take_while(|(block, (hash, _))| block.hash == *hash);
        let written = same.map_while(|(block, (_, bytes))| {
            let written = self.write(block.block_id, fetched.heads, bytes);
            written.map_err(|error| warn!("a block of the KV store does not fit: {error}")).ok()
        });
        let count = written.count();
        self.loaded_blocks.fetch_add(count, Ordering::Relaxed);
        count
    }

    fn cached(&self, salt: Option<&str>, blocks: &[PooledBlock]) {
        self.write_all_behind(salt, blocks);
        // Last: whoever sees a block here may wait for it in the store's queue.
        self.pooled().extend(blocks.iter().map(|block| block.hash));
        self.added.fetch_add(1, Ordering::Relaxed);
    }

    /// The store may have lost them.
    fn reused(&self, salt: Option<&str>, blocks: &[PooledBlock]) {
        self.write_all_behind(salt, blocks);
    }

    fn evicted(&self, hash: &BlockHash) {
        self.pooled().remove(hash);
    }
}

/// Waits until `is_seen` was true once for each index below `count`, in order, or until `limit` has passed.
async fn wait_until_each_seen(count: usize, is_seen: impl Fn(usize) -> bool, limit: Duration) {
    let began = Instant::now();
    for index in 0..count {
        while !is_seen(index) {
            if began.elapsed() >= limit {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(super) fn key_of(hash: &BlockHash) -> BlockKey {
    BlockKey(*hash.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn what_was_seen_once_may_leave() {
        let step = AtomicUsize::new(0);
        // Each is seen in one step only.
        let steps = [3, 4, 9];
        let is_seen = |index: usize| step.fetch_add(1, Ordering::Relaxed) == steps[index];
        wait_until_each_seen(steps.len(), is_seen, HOUR).await;
        assert_eq!(step.into_inner(), 10);
    }

    #[tokio::test]
    async fn what_is_never_seen_is_not_waited_for() {
        let limit = Duration::from_millis(20);
        let waited = wait_until_each_seen(4, |index| index < 2, limit);
        tokio::time::timeout(HOUR, waited).await.expect("it waits");
    }
}
