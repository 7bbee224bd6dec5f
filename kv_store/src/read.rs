//! Reading the blocks of a prompt.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{stream, StreamExt};
use tokio::time::{timeout_at, Instant};

use crate::backend::{blocking, BackendError, Stored};
use crate::block::{self, DamagedBlock, Expected};
use crate::prompt::{Prefix, PrefixEnd, WantedBlock};
use crate::shared::Shared;
use crate::BlockKey;

/// The most blocks of a prompt that are read at the same time, if they are small. If the first one is missing, the
/// others cost nothing but their requests: all are answered in the same round trip.
pub(crate) const WINDOW: usize = 16;

/// The most bytes of payloads that are read at the same time for all prompts together, and also the most that are
/// written. A larger block is read or written alone.
/// More would not be faster.
pub(crate) const BYTES_AT_ONCE: usize = 16 << 20;

/// The payloads of the longest run of `wanted`, from the first on, that is stored. Ends at `deadline`, if the time
/// can be told at all.
pub(crate) async fn read_prefix(
    shared: Arc<Shared>,
    wanted: Vec<WantedBlock>,
    payload_len: usize,
    deadline: Option<Instant>,
) -> Prefix {
    let keys: Vec<BlockKey> = wanted.iter().map(|block| block.key).collect();
    let mut payloads = Vec::new();
    if keys.is_empty() {
        return Prefix { payloads, end: PrefixEnd::Complete };
    }
    let Some(permit) = shared.reads.permit() else {
        return Prefix { payloads, end: PrefixEnd::Refused };
    };
    let mark = shared.known.mark();
    let begin = Instant::now();
    let reading = read_until_missing(&shared, wanted, payload_len, &mut payloads);
    let in_time = match deadline {
        Some(deadline) => timeout_at(deadline, reading).await,
        None => Ok(reading.await),
    };
    let time = begin.elapsed();
    let end = match in_time {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => {
            shared.read_failed(&error);
            PrefixEnd::Failed
        }
        Err(_) => {
            let (arrived, wanted) = (payloads.len(), keys.len());
            let what = format_args!("{arrived} of {wanted} blocks of a prompt arrived");
            shared.read_timed_out(what, time);
            PrefixEnd::TimedOut
        }
    };
    match verdict(end, payloads.len(), time, shared.timeout) {
        Verdict::Success => permit.succeeded(),
        Verdict::Failure => permit.failed(),
        Verdict::None => drop(permit),
    }
    let (arrived, others) = keys.split_at(payloads.len());
    if let PrefixEnd::Missing | PrefixEnd::Damaged = end {
        shared.counters.missing_blocks.add(others.len() as u64);
    }
    // The engine computes them now, and must not be told that they are stored. Those after the first may well be, but
    // are of no use without it.
    shared.known.forget_before(mark, others);
    arrived.iter().for_each(|key| shared.known.insert(*key));
    let bytes: u64 = payloads.iter().map(|payload| payload.len() as u64).sum();
    shared.counters.read_blocks.add(payloads.len() as u64);
    shared.counters.bytes_read.add(bytes);
    if !payloads.is_empty() {
        shared.read_rate.add(bytes, time);
    }
    Prefix { payloads, end }
}

/// What a read says about the store.
enum Verdict {
    Success,
    Failure,
    None,
}

/// What a read with this end, in which `arrived` blocks arrived, says about the store. `timeout` is
/// [`StoreOptions::timeout`](crate::StoreOptions::timeout).
fn verdict(end: PrefixEnd, arrived: usize, time: Duration, timeout: Duration) -> Verdict {
    match end {
        PrefixEnd::Failed => Verdict::Failure,
        // A store that is merely too slow for a long prompt, or has one damaged block, is still worth asking.
        _ if arrived > 0 => Verdict::Success,
        PrefixEnd::Damaged => Verdict::Failure,
        // The caller had hardly any time.
        PrefixEnd::TimedOut if time < timeout / 10 => Verdict::None,
        PrefixEnd::TimedOut => Verdict::Failure,
        // It costs each request so much time and gives it nothing.
        PrefixEnd::Missing if time > timeout / 2 => Verdict::Failure,
        PrefixEnd::Missing | PrefixEnd::Complete => Verdict::Success,
        PrefixEnd::Refused => Verdict::None,
    }
}

/// Appends to `payloads` up to the first block that is not there.
async fn read_until_missing(
    shared: &Arc<Shared>,
    wanted: Vec<WantedBlock>,
    payload_len: usize,
    payloads: &mut Vec<Bytes>,
) -> Result<PrefixEnd, BackendError> {
    let blocks =
        wanted.into_iter().map(|wanted| read_block(Arc::clone(shared), wanted, payload_len));
    let mut blocks = stream::iter(blocks).buffered(WINDOW);
    while let Some(block) = blocks.next().await {
        match block? {
            Block::Payload(payload) => payloads.push(payload),
            Block::Missing => return Ok(PrefixEnd::Missing),
            Block::Damaged => return Ok(PrefixEnd::Damaged),
        }
    }
    Ok(PrefixEnd::Complete)
}

/// What was found of a block.
enum Block {
    Payload(Bytes),
    Missing,
    /// It is now discarded, if that was possible.
    Damaged,
}

async fn read_block(
    shared: Arc<Shared>,
    wanted: WantedBlock,
    payload_len: usize,
) -> Result<Block, BackendError> {
    let WantedBlock { key, tokens, index } = wanted;
    let Some(longest) = block::encoded_len(tokens.len(), payload_len) else {
        return Ok(Block::Missing);
    };
    let room = shared.read_room.acquire_many(payload_len.min(BYTES_AT_ONCE) as u32).await;
    let stored = shared.backend.read(key, longest).await?;
    drop(room);
    let decoded = match stored {
        Stored::Missing => return Ok(Block::Missing),
        Stored::Unusable(damage) => Err(damage),
        Stored::Block(block, file) => {
            // A checksum of megabytes, which would hold up the other blocks of the window.
            let decode = move || {
                let expected = Expected { key, tokens: &tokens, payload_len };
                let payload = block::decode(&block, &expected)?;
                // Only what verifies is used.
                if let Some(file) = file {
                    file.used(index);
                }
                Ok(payload)
            };
            blocking(decode).await?
        }
    };
    match decoded {
        Ok(payload) => Ok(Block::Payload(payload)),
        // It is good for the servers that wrote it.
        Err(DamagedBlock::Version { .. }) => Ok(Block::Missing),
        Err(damage) => {
            shared.damaged(key, &damage);
            shared.discard(key).await;
            Ok(Block::Damaged)
        }
    }
}
