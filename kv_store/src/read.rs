//! Reading the blocks of a prompt.

use std::sync::Arc;

use bytes::Bytes;
use futures::{stream, StreamExt};
use tokio::time::{timeout_at, Instant};

use crate::backend::{blocking, BackendError};
use crate::block::{self, Expected};
use crate::options::WantedBlock;
use crate::shared::Shared;
use crate::BlockKey;

/// So many blocks of a prompt are read at once, if they are small. If the first one is missing, the others cost
/// nothing but their requests: all are answered in the same round trip.
pub(crate) const WINDOW: usize = 16;

/// So many bytes of payloads are read at once, for all prompts together, and as many written; a larger block goes alone.
/// More would not be faster, and the Redis client gives up on an answer that takes half a second.
pub(crate) const BYTES_AT_ONCE: usize = 16 << 20;

/// How the blocks of a prompt ended.
enum End {
    /// All were found.
    Complete,
    /// One is missing or damaged.
    Missing,
}

/// The payloads of the longest run of `wanted`, from the first on, that is stored. Ends at `deadline`, if the time
/// can be told at all.
pub(crate) async fn read_prefix(
    shared: Arc<Shared>,
    wanted: Vec<WantedBlock>,
    payload_len: usize,
    deadline: Option<Instant>,
) -> Vec<Bytes> {
    let keys: Vec<BlockKey> = wanted.iter().map(|block| block.key).collect();
    let mut payloads = Vec::new();
    if keys.is_empty() {
        return payloads;
    }
    let Some(permit) = shared.reads.permit() else {
        return payloads;
    };
    let begin = Instant::now();
    let reading = read_until_missing(&shared, wanted, payload_len, &mut payloads);
    let in_time = match deadline {
        Some(deadline) => timeout_at(deadline, reading).await,
        None => Ok(reading.await),
    };
    match in_time {
        Ok(Ok(end)) => {
            permit.succeeded();
            if let End::Missing = end {
                let missing = &keys[payloads.len()..];
                shared.counters.missing_blocks.add(missing.len() as u64);
                // The engine computes them now, and must not be told that they are stored. Those after the
                // first may well be, but are of no use without it.
                shared.known.forget(missing);
            }
        }
        Ok(Err(error)) => {
            permit.failed();
            shared.read_failed(&error);
        }
        Err(_) => {
            // A store that is merely too slow for a long prompt is still worth asking.
            if payloads.is_empty() {
                permit.failed();
            } else {
                permit.succeeded();
            }
            shared.read_timed_out(payloads.len(), keys.len());
        }
    }
    keys[..payloads.len()].iter().for_each(|key| shared.known.insert(*key));
    let bytes: u64 = payloads.iter().map(|payload| payload.len() as u64).sum();
    shared.counters.read_blocks.add(payloads.len() as u64);
    shared.counters.bytes_read.add(bytes);
    if !payloads.is_empty() {
        shared.read_rate.add(bytes, begin.elapsed());
    }
    payloads
}

/// Appends to `payloads` up to the first block that is not there.
async fn read_until_missing(
    shared: &Arc<Shared>,
    wanted: Vec<WantedBlock>,
    payload_len: usize,
    payloads: &mut Vec<Bytes>,
) -> Result<End, BackendError> {
    let blocks =
        wanted.into_iter().map(|wanted| read_block(Arc::clone(shared), wanted, payload_len));
    let mut blocks = stream::iter(blocks).buffered(WINDOW);
    while let Some(block) = blocks.next().await {
        match block? {
            Some(payload) => payloads.push(payload),
            None => return Ok(End::Missing),
        }
    }
    Ok(End::Complete)
}

/// The payload of a block. `None` if it is missing, or damaged and now discarded.
async fn read_block(
    shared: Arc<Shared>,
    wanted: WantedBlock,
    payload_len: usize,
) -> Result<Option<Bytes>, BackendError> {
    let WantedBlock { key, tokens } = wanted;
    let Some(longest) = block::encoded_len(tokens.len(), payload_len) else {
        return Ok(None);
    };
    let room = shared.read_room.acquire_many(payload_len.min(BYTES_AT_ONCE) as u32).await;
    let block = shared.backend.read(key, longest).await?;
    drop(room);
    let Some(block) = block else {
        return Ok(None);
    };
    // A checksum of megabytes, which would hold up the other blocks of the window.
    let decoded =
        blocking(move || block::decode(&block, &Expected { key, tokens: &tokens, payload_len }));
    match decoded.await? {
        Ok(payload) => Ok(Some(payload)),
        Err(damage) => {
            shared.damaged(key, &damage);
            shared.backend.discard(key).await?;
            Ok(None)
        }
    }
}
