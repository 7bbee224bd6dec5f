//! The second tier of the prefix cache: KV blocks in a store outside the process.
//!
//! A prompt's blocks are read from the store before its request is sent to the engine ([`KvTier::fetch`]), and the
//! scheduler copies them into the pool when it admits the sequence. Blocks that enter the prefix cache are copied and
//! written behind. The engine's thread never waits for the store. Long prompts may be computed by another process, a
//! [`prefill_server`], which puts their blocks into the store.

mod fetch;
mod fetched;
mod identity;
mod options;
mod prefill_options;
mod prefill_server;
mod reading_pays;
mod tier;

pub use fetched::Fetched;
pub use identity::KvIdentity;
pub use options::KvStoreOptions;
pub use prefill_options::PrefillServerOptions;
pub use reading_pays::PrefillRate;
pub use tier::{KvTier, KvTierCounts};
