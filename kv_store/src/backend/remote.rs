//! Stores that opendal reaches: Redis, S3, and memory for tests.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::{services, ErrorKind, Operator};

use super::redis_list;
use crate::store_url::RedisAddress;
use crate::BlockKey;

/// Before each key, so that a database or bucket can have other tenants.
pub(super) const ROOT: &str = "colm-kv";

/// An error of a remote store.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A block was not read, written, deleted or listed.
    #[error(transparent)]
    Opendal(Box<opendal::Error>),
    /// The blocks of a Redis were not listed.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
}

impl From<opendal::Error> for RemoteError {
    fn from(error: opendal::Error) -> Self {
        Self::Opendal(Box::new(error))
    }
}

/// A store behind opendal.
#[derive(Clone)]
pub(crate) struct Remote {
    operator: Operator,
    /// If it is a Redis: opendal does not list one.
    redis: Option<Box<RedisAddress>>,
}

impl Remote {
    /// A Redis database. Nothing is connected yet. `connections` is how many operations may run at once.
    pub(crate) fn redis(address: &RedisAddress, connections: usize) -> Result<Self, RemoteError> {
        let RedisAddress { tls, host, port, database, user, password } = address;
        if *tls {
            // opendal does not choose one, and rustls refuses to if a build has several. Fails if the program
            // has chosen already, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let scheme = if *tls { "rediss" } else { "redis" };
        let redis = services::Redis::default()
            .endpoint(&format!("{scheme}://{host}:{port}"))
            .db(*database)
            .username(user.as_deref().unwrap_or(""))
            .password(password.as_deref().unwrap_or(""))
            .root(ROOT)
            .connection_pool_max_size(connections);
        let operator = Operator::new(redis)?.finish();
        Ok(Self { operator, redis: Some(Box::new(address.clone())) })
    }

    /// The memory of this process: shared by all stores with this `name`, or of this store alone if it is empty.
    pub(crate) fn memory(name: &str) -> Result<Self, RemoteError> {
        static SHARED: LazyLock<Mutex<HashMap<String, Remote>>> = LazyLock::new(Mutex::default);
        let new = || {
            let operator = Operator::new(services::Memory::default())?.finish();
            Ok(Self { operator, redis: None })
        };
        if name.is_empty() {
            return new();
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = shared.get(name) {
            return Ok(remote.clone());
        }
        let remote = new()?;
        shared.insert(name.into(), remote.clone());
        Ok(remote)
    }

    /// A bucket of S3. Credentials, region and endpoint come from the environment, as for other AWS programs.
    #[cfg(feature = "s3")]
    pub(crate) fn s3(bucket: &str, prefix: &str) -> Result<Self, RemoteError> {
        // As for Redis.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let s3 = services::S3::default().bucket(bucket).root(&format!("/{prefix}/{ROOT}"));
        Ok(Self { operator: Operator::new(s3)?.finish(), redis: None })
    }

    /// The bytes under `key`.
    pub(crate) async fn read(&self, key: BlockKey) -> Result<Option<Bytes>, RemoteError> {
        match self.operator.read(&path(&key)).await {
            Ok(block) => Ok(Some(block.to_bytes())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts `block` under `key`.
    pub(crate) async fn write(&self, key: BlockKey, block: Bytes) -> Result<(), RemoteError> {
        self.operator.write(&path(&key), block).await?;
        Ok(())
    }

    /// Deletes the block under `key`, if there is one.
    pub(crate) async fn delete(&self, key: BlockKey) -> Result<(), RemoteError> {
        Ok(self.operator.delete(&path(&key)).await?)
    }

    /// The keys and lengths of all blocks.
    pub(crate) async fn list(&self) -> Result<Vec<(BlockKey, u64)>, RemoteError> {
        if let Some(address) = &self.redis {
            return Ok(redis_list::list(address).await?);
        }
        let mut entries = self.operator.lister("").await?;
        let mut blocks = Vec::new();
        while let Some(entry) = entries.try_next().await? {
            let key = key_of(entry.name());
            blocks.extend(key.map(|key| (key, entry.metadata().content_length())));
        }
        Ok(blocks)
    }
}

/// The name of a block's entry under [`ROOT`].
pub(super) fn path(key: &BlockKey) -> String {
    format!("{key}.kv")
}

/// The key of a block whose [`path`] is `name`.
pub(super) fn key_of(name: &str) -> Option<BlockKey> {
    name.strip_suffix(".kv").and_then(BlockKey::from_hex)
}
