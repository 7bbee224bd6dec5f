//! The bytes of a stored block.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `colm-kv` and a zero |
//! | 4 | [`FORMAT_VERSION`] |
//! | 32 | [`BlockKey`] |
//! | 4 | number of tokens |
//! | 4 each | tokens |
//! | 8 | length of the payload |
//! | that many | payload: keys and values as the engine lays them out |
//! | 16 | checksum: XXH3-128 of everything before |
//!
//! Numbers are little-endian. Nothing may follow. The checksum finds damage, not forgery: whoever can write
//! to a store can give answers to its users.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_128, Xxh3};

use crate::buffers::{Buffer, Buffers};
use crate::BlockKey;

/// The version of the bytes of a block. It belongs in the model's identity, so that servers of different versions
/// that share a store do not look for each other's blocks.
pub const FORMAT_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"colm-kv\0";
const CHECKSUM_LEN: usize = 16;
/// Up to the number of tokens, inclusive.
const HEADER_LEN: usize = MAGIC.len() + 4 + 32 + 4;
/// A block without tokens and payload.
const EMPTY_LEN: usize = HEADER_LEN + 8 + CHECKSUM_LEN;

/// No block is longer, in bytes. A block of the largest models has tens of MiB. A read takes no more than one byte
/// over the length that it expects, except from S3, whose objects are read whole.
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
    /// Another version of colm wrote it. It counts as absent and is not deleted.
    #[error("it has version {found} of the format, expected {FORMAT_VERSION}")]
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
    /// It is not a file: a link, a pipe, a folder.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
    },
    /// Its file cannot be opened or read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is in the subfolder of other keys, where no read finds it.
    #[error("{} is in the wrong folder", path.display())]
    Misplaced {
        /// Where it is.
        path: PathBuf,
    },
    /// Its payload has another length than the engine's blocks.
    #[error("its payload has {found} bytes, expected {expected}")]
    PayloadLength {
        /// Length in the block.
        found: usize,
        /// Length asked for.
        expected: usize,
    },
}

impl DamagedBlock {
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: path.into(), reason: error.to_string() }
    }
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
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
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
    // Checked first, because the blocks of other versions may have any length.
    same_version(block)?;
    // Then this, because stores need not read more than one byte after the expected end.
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

/// As [`verify`], for the file at `path`, which has `len` bytes. It is read in pieces, and no further than the lengths
/// in it if they do not agree with its own.
pub(crate) fn verify_file(
    file: impl Read,
    len: u64,
    path: &Path,
    key: BlockKey,
) -> Result<(), DamagedBlock> {
    let mut pieces = Pieces { file, path, hash: Xxh3::new() };
    let mut start = [0; HEADER_LEN];
    let start = &mut start[..HEADER_LEN.min(len as usize)];
    pieces.read(start)?;
    let header = Header::of(start, len)?;
    if len > LONGEST as u64 {
        return Err(DamagedBlock::Longer { expected: LONGEST as u64 });
    }
    pieces.skip(header.tokens_len())?;
    let mut payload_len = [0; 8];
    pieces.read(&mut payload_len)?;
    let payload_len = u64::from_le_bytes(payload_len);
    header.has_length(payload_len, len)?;
    pieces.skip(payload_len)?;
    let hash = pieces.hash.digest128();
    let mut checksum = [0; CHECKSUM_LEN];
    pieces.read(&mut checksum)?;
    if hash.to_le_bytes() != checksum {
        return Err(DamagedBlock::Checksum);
    }
    if header.key != key {
        return Err(DamagedBlock::Key { found: header.key });
    }
    Ok(())
}

/// A file that is read once, and the hash of what was read.
struct Pieces<'a, R> {
    file: R,
    path: &'a Path,
    hash: Xxh3,
}

impl<R: Read> Pieces<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DamagedBlock> {
        let read = self.file.read_exact(bytes);
        read.map_err(|error| DamagedBlock::unreadable(self.path, &error))?;
        self.hash.update(bytes);
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), DamagedBlock> {
        const PIECE: u64 = 1 << 20;
        let mut piece = vec![0; bytes.min(PIECE) as usize];
        let mut left = bytes;
        while left > 0 {
            let next = left.min(PIECE);
            self.read(&mut piece[..next as usize])?;
            left -= next;
        }
        Ok(())
    }
}

/// What a block says about itself before its tokens.
struct Header {
    key: BlockKey,
    tokens: u32,
}

impl Header {
    /// Of a block of `len` bytes that begins with `start`, which has [`HEADER_LEN`] bytes or all of the block.
    fn of(start: &[u8], len: u64) -> Result<Self, DamagedBlock> {
        same_version(start)?;
        complete(len, EMPTY_LEN as u64)?;
        let (magic, rest) = take(start);
        if magic != MAGIC {
            return Err(DamagedBlock::Magic);
        }
        let (_, rest) = take::<4>(rest);
        let (key, rest) = take(rest);
        let (tokens, _) = take(rest);
        let header = Self { key: BlockKey(*key), tokens: u32::from_le_bytes(*tokens) };
        complete(len, EMPTY_LEN as u64 + header.tokens_len())?;
        Ok(header)
    }

    fn tokens_len(&self) -> u64 {
        4 * u64::from(self.tokens)
    }

    /// Checks the length of the whole block.
    fn has_length(&self, payload_len: u64, len: u64) -> Result<(), DamagedBlock> {
        let expected = (EMPTY_LEN as u64 + self.tokens_len()).saturating_add(payload_len);
        complete(len, expected)?;
        if len > expected {
            return Err(DamagedBlock::Longer { expected });
        }
        Ok(())
    }
}

fn complete(found: u64, expected: u64) -> Result<(), DamagedBlock> {
    if found < expected {
        return Err(DamagedBlock::Truncated { found: found as usize, expected });
    }
    Ok(())
}

/// An error if `block` begins like a block of another version.
fn same_version(block: &[u8]) -> Result<(), DamagedBlock> {
    let version = block.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk());
    match version.map(|version| u32::from_le_bytes(*version)) {
        Some(found) if found != FORMAT_VERSION => Err(DamagedBlock::Version { found }),
        _ => Ok(()),
    }
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
        let header = Header::of(&block[..block.len().min(HEADER_LEN)], block.len() as u64)?;
        let (tokens, rest) = block[HEADER_LEN..].split_at(header.tokens_len() as usize);
        let (payload_len, rest) = take(rest);
        let payload_len = u64::from_le_bytes(*payload_len);
        header.has_length(payload_len, block.len() as u64)?;
        let (payload, checksum) = rest.split_at(payload_len as usize);
        if xxh3_128(&block[..block.len() - CHECKSUM_LEN]).to_le_bytes() != checksum {
            return Err(DamagedBlock::Checksum);
        }
        Ok(Self { key: header.key, tokens, payload })
    }
}

/// The first `N` bytes and the others. The caller has checked that they are there.
fn take<const N: usize>(bytes: &[u8]) -> (&[u8; N], &[u8]) {
    bytes.split_first_chunk().expect("the caller has checked the length")
}

#[cfg(test)]
mod tests;
