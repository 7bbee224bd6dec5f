//! Fetching the blocks of a prompt from the store, before the engine sees the prompt.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use colm_checkpoint::ChainCount;
use colm_kv_store::{Prefix, PrefixEnd, WantedBlock};
use mistralrs_core::ext::BlockHash;
use tokio::sync::OwnedSemaphorePermit;

use super::fetched::{Fetched, FetchedBlocks};
use super::prefill_server::PrefillServer;
use super::tier::{key_of, KvTier, MEMORY_UNIT};

/// A block of a prompt that the pool does not have.
struct MissingBlock<'a> {
    hash: BlockHash,
    tokens: &'a [u32],
    /// Its place in the prompt.
    index: usize,
}

/// The first blocks of a run that could be read.
struct Read {
    payloads: Vec<Bytes>,
    end: ReadEnd,
    /// How long it took.
    time: Duration,
    memory: Vec<OwnedSemaphorePermit>,
}

/// Why a run of blocks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    /// The result of the store.
    Store(PrefixEnd),
    /// There is no memory for the next block. The store was not asked for it, and may well have it.
    NoMemory,
}

impl KvTier {
    /// Reads the blocks at the beginning of `prompt`, for an answer at `k` chains, that are in the store and not in the
    /// pool. If many are in neither, the prefill server computes them first. Both reads together take as long as one may.
    pub async fn fetch(&self, prompt: &[u32], k: ChainCount) -> Option<Fetched> {
        if self.is_paused() {
            return None;
        }
        let identity = self.loaded.kv_identity()?;
        let salt = identity.salt(k);
        let hashes = self.hashes(prompt, salt);
        let heads = self.heads(k.get())?;
        let bytes_per_block = self.bytes_per_block(heads);
        let tokens = prompt.chunks_exact(self.block_size);
        let missing = hashes.iter().zip(tokens).enumerate().skip(self.first_missing(&hashes));
        let missing: Vec<_> =
            missing.map(|(index, (&hash, tokens))| MissingBlock { hash, tokens, index }).collect();
        if missing.is_empty() || !self.reading_pays(missing.len(), bytes_per_block) {
            return None;
        }
        let mut read = self.read(&missing, bytes_per_block, self.store.timeout()).await;
        if read.was_skipped() {
            self.skipped_reads.fetch_add(1, Ordering::Relaxed);
        } else if read.end != ReadEnd::Store(PrefixEnd::Refused) {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(server) = self.prefill_server.as_ref().filter(|_| read.end.is_healthy()) {
            let chains = identity.chains_of(salt)?;
            let rest = &missing[read.payloads.len()..];
            let left = self.store.timeout().saturating_sub(read.time);
            let computed = self.prefill(server, (prompt, chains), rest, bytes_per_block, left);
            read.extend(computed.await);
        }
        let microseconds = u64::try_from(read.time.as_micros()).unwrap_or(u64::MAX);
        self.read_microseconds.fetch_add(microseconds, Ordering::Relaxed);
        let blocks: Vec<_> = missing.iter().map(|block| block.hash).zip(read.payloads).collect();
        let fetched = FetchedBlocks { blocks, heads, _memory: read.memory };
        (!fetched.blocks.is_empty()).then(|| Fetched::new(fetched))
    }

    /// Lets the server compute a prompt at some number of chains, if that is worth it for `rest`, and reads these blocks
    /// within `left`. None if they were not computed.
    async fn prefill(
        &self,
        server: &PrefillServer,
        (prompt, chains): (&[u32], usize),
        rest: &[MissingBlock<'_>],
        bytes_per_block: usize,
        left: Duration,
    ) -> Option<Read> {
        let call = server.call(rest.len() * self.block_size)?;
        let computed = call.prefill(prompt, chains).await?;
        let read = self.read(rest, bytes_per_block, left).await;
        if read.found_nothing() {
            computed.not_stored();
        } else {
            computed.stored();
        }
        Some(read)
    }

    fn reading_pays(&self, blocks: usize, bytes_per_block: usize) -> bool {
        let (tokens, bytes) = (blocks * self.block_size, blocks * bytes_per_block);
        let pays = self.always_read
            || self.loaded.prefill_rate().reading_pays(tokens, bytes, self.store.read_rate());
        if !pays {
            self.skipped_reads.fetch_add(1, Ordering::Relaxed);
        }
        pays
    }

    /// Reads the first of `blocks`, as far as there is memory for them and the store has them without a gap, within `limit`.
    async fn read(
        &self,
        blocks: &[MissingBlock<'_>],
        bytes_per_block: usize,
        limit: Duration,
    ) -> Read {
        let Some((mut memory, count)) = self.reserve(blocks.len(), bytes_per_block) else {
            return Read::without_memory();
        };
        let wanted = blocks[..count].iter().map(|block| WantedBlock {
            key: key_of(&block.hash),
            tokens: block.tokens.to_vec(),
            index: block.index,
        });
        let began = Instant::now();
        let deadline = began.checked_add(limit);
        let Prefix { payloads, end } =
            self.store.read_prefix(wanted.collect(), bytes_per_block, deadline).await;
        let units = (payloads.len() * bytes_per_block).div_ceil(MEMORY_UNIT);
        let unused = memory.num_permits().saturating_sub(units);
        drop(memory.split(unused));
        let end = ReadEnd::of(end, count < blocks.len());
        Read { payloads, end, time: began.elapsed(), memory: vec![memory] }
    }

    /// Memory for as many of `blocks` as there is room for, and their number. None if there is none.
    fn reserve(&self, blocks: usize, bytes: usize) -> Option<(OwnedSemaphorePermit, usize)> {
        let units_of = |count: usize| (count * bytes).div_ceil(MEMORY_UNIT);
        let room = self.memory.available_permits() * MEMORY_UNIT / bytes.max(1);
        let count = blocks.min(room).min(u32::MAX as usize * MEMORY_UNIT / bytes.max(1) / 2);
        let units = u32::try_from(units_of(count)).ok().filter(|_| count > 0)?;
        let memory = self.memory.clone().try_acquire_many_owned(units).ok()?;
        Some((memory, count))
    }
}

impl ReadEnd {
    /// How a run ended: `end` is the store's result, and `cut` says that memory allowed only the first blocks to be
    /// requested.
    fn of(end: PrefixEnd, cut: bool) -> Self {
        match end {
            PrefixEnd::Complete if cut => Self::NoMemory,
            end => Self::Store(end),
        }
    }

    /// Whether the store works and does not have the next block.
    fn is_healthy(self) -> bool {
        matches!(self, Self::Store(end) if end.is_healthy())
    }
}

impl Read {
    /// No block was asked for.
    fn without_memory() -> Self {
        let (payloads, memory) = (Vec::new(), Vec::new());
        Self { payloads, end: ReadEnd::NoMemory, time: Duration::ZERO, memory }
    }

    /// Whether the store was not asked, because there was no memory for a single block.
    fn was_skipped(&self) -> bool {
        self.payloads.is_empty() && self.end == ReadEnd::NoMemory
    }

    /// Whether the store was asked and does not have the first block.
    fn found_nothing(&self) -> bool {
        self.payloads.is_empty() && self.end == ReadEnd::Store(PrefixEnd::Missing)
    }

    /// Adds the blocks after these.
    fn extend(&mut self, next: Option<Self>) {
        let Some(next) = next else { return };
        self.payloads.extend(next.payloads);
        self.time += next.time;
        self.memory.extend(next.memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payloads: usize, end: ReadEnd) -> Read {
        Read { payloads: vec![Bytes::new(); payloads], end, ..Read::without_memory() }
    }

    #[test]
    fn a_prefill_server_is_asked_for_what_a_store_that_works_does_not_have() {
        use PrefixEnd::*;
        for (end, cut, asked) in [
            (Missing, false, true),
            (Missing, true, true),
            (Complete, false, true),
            // The store may have the others.
            (Complete, true, false),
            (Damaged, true, false),
            (Failed, false, false),
            (TimedOut, false, false),
            (Refused, false, false),
        ] {
            assert_eq!(ReadEnd::of(end, cut).is_healthy(), asked, "{end:?}, cut: {cut}");
        }
        assert!(!Read::without_memory().end.is_healthy());
    }

    #[test]
    fn a_prefill_server_is_blamed_only_for_what_was_looked_for() {
        assert!(read(0, ReadEnd::Store(PrefixEnd::Missing)).found_nothing());
        let computed = [
            read(1, ReadEnd::Store(PrefixEnd::Missing)),
            read(1, ReadEnd::NoMemory),
            read(0, ReadEnd::Store(PrefixEnd::Failed)),
            Read::without_memory(),
        ];
        assert!(!computed.iter().any(Read::found_nothing));
    }
}
