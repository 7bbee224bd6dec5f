//! A store of KV blocks outside the engine's memory, as LMCache is to vLLM.
//!
//! The engine's prefix cache is lost when the process ends, and holds what fits in its memory. This crate keeps
//! the blocks of prompts in a folder, in Redis or, with the feature `s3`, in S3. There they survive a restart, and other
//! engines find them. It knows no host, no tensors and no model: a block is a [`BlockKey`], tokens and bytes.
//!
//! A store is a cache. Whatever goes wrong with it, a request is answered without it, and never later than
//! [`StoreOptions::timeout`]:
//!
//! - A block has a checksum of all of its bytes. What does not verify is logged, counted and treated as absent.
//! - [`KvStore::read_prefix`] returns what has arrived in time.
//! - [`KvStore::write`] returns at once; a block that finds the queue full is dropped.
//! - After three failures in a row, reads or writes leave the store alone for a while (a circuit breaker).
//!
//! Blocks contain the tokens of prompts, and whoever can write to a store can change answers. A folder that is
//! created is its owner's alone. In a folder that exists, blocks have the group's rights on it and none for others, so
//! that a group of users can share it. A Redis server needs a password and a private network.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use colm_kv_store::{BlockKey, KvStore, NewBlock, PrefixEnd, StoreOptions, WantedBlock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = KvStore::open(StoreOptions {
//!     url: "memory:".parse()?,
//!     max_bytes: None,
//!     timeout: Duration::from_secs(1),
//!     queue_bytes: 64 << 20,
//! })?;
//! let (key, tokens, payload) = (BlockKey([7; 32]), vec![1, 2, 3, 4], vec![0; 1000]);
//! let block = NewBlock { key, tokens: &tokens, index: 0 };
//! store.write(block, payload.len(), |bytes| {
//!     bytes.extend_from_slice(&payload);
//!     Ok::<_, Infallible>(())
//! })?;
//! store.flush().await;
//!
//! let missing = WantedBlock { key: BlockKey([8; 32]), tokens: vec![5, 6, 7, 8], index: 1 };
//! let wanted = vec![WantedBlock { key, tokens, index: 0 }, missing];
//! let prefix = store.read_prefix(wanted, 1000, None).await;
//! assert_eq!(prefix.payloads, [payload]);
//! assert_eq!(prefix.end, PrefixEnd::Missing);
//! # Ok(())
//! # }
//! ```
//!
//! # What stores promise
//!
//! - **`file://`**: one file per block, written under a temporary name and renamed, so several processes can share
//!   a folder and any of them can be killed. Files are not synced: after a power cut some blocks may be damaged,
//!   which their checksums show. On Linux they are written with `O_DIRECT` where the file system supports it;
//!   reads use the page cache. The time of modification of a file is when its block was last used; those at
//!   the end of a prompt count as used earlier, so that they are deleted before the beginning.
//!   With [`StoreOptions::max_bytes`], the blocks that were not used for longest are deleted.
//! - **`redis://`**: one string per block, under `colm-kv/`. Redis bounds itself: set `maxmemory`, and
//!   `maxmemory-policy allkeys-lru`. Connecting may take half of [`StoreOptions::timeout`].
//! - **`s3://`** (feature `s3`): one object per block. A lifecycle rule bounds it.
//!
//! # Why opendal, and why not for Redis
//!
//! S3 is reached through `opendal`, and other remote stores can be: it has one interface for many, and signs requests.
//! Redis is reached with the crate `redis`, which opendal uses as well. Through opendal, a server that refuses
//! connections or the password costs the whole time-out, because it is tried again six times and the error is not
//! shown; a value is read whatever its length is; and keys are not listed.
//!
//! Folders are read with `std::fs`: renames and times of modification are simpler to get right without a layer in
//! between.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | `store` | the handle [`KvStore`] and its thread |
//! | `prompt`, `read`, `refresh`, `writer`, `write_queue` | the two directions |
//! | `block`, `key`, `buffers` | the bytes of a block, its name, and memory for it |
//! | `backend` | folders, Redis, and opendal |
//! | `breaker` | when to leave a store alone |
//! | `known` | which blocks need not be written |
//! | `use_time` | which blocks are deleted first |
//! | `maintenance` | [`stat`], [`check`] and [`prune`] |

mod backend;
mod block;
mod breaker;
mod buffers;
mod counts;
mod key;
mod known;
mod log_limit;
mod maintenance;
mod options;
mod prompt;
mod read;
mod read_rate;
mod refresh;
mod shared;
mod store;
mod store_url;
mod use_time;
mod write_queue;
mod writer;

#[cfg(test)]
mod tests;

pub use backend::{FileError, RemoteError};
pub use block::{DamagedBlock, FORMAT_VERSION};
pub use breaker::{CircuitBreaker, Clock, Permit};
pub use counts::StoreCounts;
pub use key::BlockKey;
pub use maintenance::{check, prune, stat, CheckReport, MaintenanceError, PruneReport, Statistics};
pub use options::StoreOptions;
pub use prompt::{NewBlock, Prefix, PrefixEnd, WantedBlock};
pub use store::{KvStore, OpenError};
pub use store_url::{without_password, StoreUrl, UrlError};
