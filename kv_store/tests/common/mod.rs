//! Blocks for tests.

use std::convert::Infallible;
use std::time::Duration;

use colm_kv_store::{BlockKey, KvStore, NewBlock, Prefix, StoreOptions, WantedBlock};

/// Bytes of each payload.
pub const LEN: usize = 1000;

/// Blocks of a prompt: block 1000 begins another one.
pub const PROMPT: usize = 1000;

pub fn options(url: &str) -> StoreOptions {
    StoreOptions {
        url: url.parse().unwrap(),
        max_bytes: None,
        // Long enough that no operation ever takes so long.
        timeout: Duration::from_secs(60),
        queue_bytes: 1 << 30,
    }
}

pub fn open(options: StoreOptions) -> KvStore {
    KvStore::open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Any 32 bytes are a key; these differ in the first ones, as hashes do.
pub fn key(i: usize) -> BlockKey {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    BlockKey(key)
}

pub fn tokens(i: usize) -> Vec<u32> {
    (0..16).map(|position| (16 * i + position) as u32).collect()
}

pub fn payload(i: usize) -> Vec<u8> {
    (0..LEN).map(|at| (i + 3 * at) as u8).collect()
}

/// Writes these blocks, and waits until that has been tried.
pub async fn write(store: &KvStore, blocks: impl IntoIterator<Item = usize>) {
    blocks.into_iter().for_each(|i| write_payload(store, i, &payload(i)));
    store.flush().await;
}

/// Queues a block with this payload.
pub fn write_payload(store: &KvStore, i: usize, payload: &[u8]) {
    let tokens = tokens(i);
    let block = NewBlock { key: key(i), tokens: &tokens, index: i % PROMPT };
    let Ok(()) = store.write(block, payload.len(), |block| {
        block.extend_from_slice(payload);
        Ok::<_, Infallible>(())
    });
}

/// The blocks at these places of prompts.
pub fn wanted(blocks: impl IntoIterator<Item = usize>) -> Vec<WantedBlock> {
    let wanted = |i| WantedBlock { key: key(i), tokens: tokens(i), index: i % PROMPT };
    blocks.into_iter().map(wanted).collect()
}

/// Reads these blocks and checks those that are found. Returns their number.
pub async fn read(store: &KvStore, blocks: impl IntoIterator<Item = usize>) -> usize {
    read_prefix(store, blocks).await.payloads.len()
}

/// As [`read`]. Returns all that the store returned.
pub async fn read_prefix(store: &KvStore, blocks: impl IntoIterator<Item = usize>) -> Prefix {
    let blocks: Vec<usize> = blocks.into_iter().collect();
    let prefix = store.read_prefix(wanted(blocks.clone()), LEN, None).await;
    let found = prefix.payloads.len();
    let expected: Vec<Vec<u8>> = blocks.into_iter().take(found).map(payload).collect();
    assert_eq!(prefix.payloads, expected);
    prefix
}
