//! The bytes of a stored block.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `colm-kv` and a zero |
//! | 4 | version of the format, 2 |
//! | 32 | [`BlockKey`] |
//! | 4 | number of tokens |
//! | 4 each | tokens |
//! | 8 | length of the payload |
//! | that many | payload: keys and values as the engine lays them out |
//! | 16 | checksum: XXH3-128 of everything before |
//!
//! Numbers are little-endian. Nothing may follow. The checksum finds damage, not forgery: whoever can write
//! to a store can give answers to its users.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::buffers::{Buffer, Buffers};
use crate::BlockKey;

const MAGIC: &[u8; 8] = b"colm-kv\0";
const VERSION: u32 = 2;
const CHECKSUM_LEN: usize = 16;
/// Up to the number of tokens, inclusive.
const HEADER_LEN: usize = MAGIC.len() + 4 + 32 + 4;
/// A block without tokens and payload.
const EMPTY_LEN: usize = HEADER_LEN + 8 + CHECKSUM_LEN;

/// No block is longer, in bytes. A block of the largest models has tens of MiB.
pub(crate) const LONGEST: usize = 1 << 30;

/// Why the bytes that a store has for a block are not that block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamagedBlock {
    /// There are fewer bytes than the block says it has.
    #[error("it ends after {found} bytes, expected at least {expected}")]
    Truncated {
        /// Bytes that are there.
        found: usize,
        /// Bytes that a complete block would have, as far as its length can be read.
        expected: u64,
    },
    /// There are more bytes than expected.
    #[error("it has more than {expected} bytes")]
    Longer {
        /// Bytes that the block should have.
        expected: u64,
    },
    /// It does not begin as a block does.
    #[error("it does not begin like a KV block")]
    Magic,
    /// Another version of colm wrote it.
    #[error("it has version {found} of the format, expected {VERSION}")]
    Version {
        /// Version in the block.
        found: u32,
    },
    /// Its checksum is not that of its bytes.
    #[error("its checksum is wrong")]
    Checksum,
    /// It is a valid block under another key.
    #[error("it is the block {found}")]
    Key {
        /// Key in the block.
        found: BlockKey,
    },
    /// Its tokens are not those asked for.
    #[error("it was computed from other tokens")]
    Tokens,
    /// Its payload has another length than the engine's blocks.
    #[error("its payload has {found} bytes, expected {expected}")]
    PayloadLength {
        /// Length in the block.
        found: usize,
        /// Length asked for.
        expected: usize,
    },
}

/// What the block of a prompt must be.
pub(crate) struct Expected<'a> {
    pub key: BlockKey,
    pub tokens: &'a [u32],
    pub payload_len: usize,
}

/// The length of the block with `tokens` tokens and a payload of `payload` bytes. `None` if it is longer
/// than a block may be.
pub(crate) fn encoded_len(tokens: usize, payload: usize) -> Option<usize> {
    let len = EMPTY_LEN.checked_add(tokens.checked_mul(4)?)?.checked_add(payload)?;
    (len <= LONGEST).then_some(len)
}

/// Begins a block: the caller appends `payload_len` bytes, and then [`seal`] adds what is missing. Bytes that are already where
/// they belong are not copied again.
pub(crate) fn begin(
    key: BlockKey,
    tokens: &[u32],
    payload_len: usize,
    buffers: &Buffers,
) -> Buffer {
    let mut block = buffers.take(EMPTY_LEN + 4 * tokens.len() + payload_len);
    let bytes = block.vec();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(&(tokens.len() as u32).to_le_bytes());
    tokens.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
    bytes.extend_from_slice(&(payload_len as u64).to_le_bytes());
    block
}

/// Appends the checksum to a block that has its payload.
pub(crate) fn seal(block: &mut Buffer) {
    let checksum = xxh3_128(block);
    block.vec().extend_from_slice(&checksum.to_le_bytes());
}

/// The payload of `block`, if it is the block expected.
pub(crate) fn decode(block: &Bytes, expected: &Expected) -> Result<Bytes, DamagedBlock> {
    let len = EMPTY_LEN + 4 * expected.tokens.len() + expected.payload_len;
    // Checked first, because stores do not read more than one byte after the expected end.
    if block.len() > len {
        return Err(DamagedBlock::Longer { expected: len as u64 });
    }
    let parts = Parts::verify(block)?;
    if parts.key != expected.key {
        return Err(DamagedBlock::Key { found: parts.key });
    }
    let tokens = expected.tokens.iter().flat_map(|token| token.to_le_bytes());
    if !parts.tokens.iter().copied().eq(tokens) {
        return Err(DamagedBlock::Tokens);
    }
    let (found, expected) = (parts.payload.len(), expected.payload_len);
    if found != expected {
        return Err(DamagedBlock::PayloadLength { found, expected });
    }
    Ok(block.slice_ref(parts.payload))
}

/// Checks the bytes that a store has under `key`, whatever its tokens are.
pub(crate) fn verify(block: &[u8], key: BlockKey) -> Result<(), DamagedBlock> {
    if block.len() > LONGEST {
        return Err(DamagedBlock::Longer { expected: LONGEST as u64 });
    }
    let found = Parts::verify(block)?.key;
    if found != key {
        return Err(DamagedBlock::Key { found });
    }
    Ok(())
}

/// A block whose checksum is right.
struct Parts<'a> {
    key: BlockKey,
    /// Four bytes each.
    tokens: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    fn verify(block: &'a [u8]) -> Result<Self, DamagedBlock> {
        let complete = |expected: u64| {
            let found = block.len();
            if (found as u64) < expected {
                return Err(DamagedBlock::Truncated { found, expected });
            }
            Ok(())
        };
        complete(EMPTY_LEN as u64)?;
        let (magic, rest) = take(block);
        if magic != MAGIC {
            return Err(DamagedBlock::Magic);
        }
        let (version, rest) = take(rest);
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(DamagedBlock::Version { found });
        }
        let (key, rest) = take(rest);
        let (count, rest) = take(rest);
        let tokens_len = 4 * u64::from(u32::from_le_bytes(*count));
        complete(EMPTY_LEN as u64 + tokens_len)?;
        let (tokens, rest) = rest.split_at(tokens_len as usize);
        let (payload_len, rest) = take(rest);
        let payload_len = u64::from_le_bytes(*payload_len);
        let len = (EMPTY_LEN as u64 + tokens_len).saturating_add(payload_len);
        complete(len)?;
        if block.len() as u64 > len {
            return Err(DamagedBlock::Longer { expected: len });
        }
        let (payload, checksum) = rest.split_at(payload_len as usize);
        if xxh3_128(&block[..block.len() - CHECKSUM_LEN]).to_le_bytes() != checksum {
            return Err(DamagedBlock::Checksum);
        }
        Ok(Self { key: BlockKey(*key), tokens, payload })
    }
}

/// The first `N` bytes and the others. The caller has checked that they are there.
fn take<const N: usize>(bytes: &[u8]) -> (&[u8; N], &[u8]) {
    bytes.split_first_chunk().expect("the caller has checked the length")
}

#[cfg(test)]
mod tests;
