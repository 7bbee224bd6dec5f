//! Blocks for tests.

use std::convert::Infallible;
use std::time::Duration;

use colm_kv_store::{BlockKey, KvStore, StoreOptions, WantedBlock};

/// Bytes of each payload.
pub const LEN: usize = 1000;

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
    let Ok(()) = store.write(key(i), &tokens(i), payload.len(), |block| {
        block.extend_from_slice(payload);
        Ok::<_, Infallible>(())
    });
}

/// Reads these blocks and checks those that are found. Returns their number.
pub async fn read(store: &KvStore, blocks: impl IntoIterator<Item = usize>) -> usize {
    let blocks: Vec<usize> = blocks.into_iter().collect();
    let wanted = blocks.iter().map(|i| WantedBlock { key: key(*i), tokens: tokens(*i) });
    let payloads = store.read_prefix(wanted.collect(), LEN).await;
    let expected: Vec<Vec<u8>> = blocks.into_iter().take(payloads.len()).map(payload).collect();
    assert_eq!(payloads, expected);
    payloads.len()
}
