//! Stores without files: Redis, and those that opendal reaches, which are S3 and memory for tests.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::{services, ErrorKind, Operator};

use super::redis_store::{Patience, RedisStore};
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
    /// Redis did not answer, or with an error.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
}

impl From<opendal::Error> for RemoteError {
    fn from(error: opendal::Error) -> Self {
        Self::Opendal(Box::new(error))
    }
}

/// A store without files.
#[derive(Clone)]
pub(crate) enum Remote {
    Redis(Arc<RedisStore>),
    Opendal(Operator),
}

impl Remote {
    /// A Redis database. Nothing is connected yet. `connections` is how many operations may run at once.
    pub(crate) fn redis(
        address: &RedisAddress,
        patience: Patience,
        connections: usize,
    ) -> Result<Self, RemoteError> {
        Ok(Self::Redis(Arc::new(RedisStore::new(address, patience, connections)?)))
    }

    /// The memory of this process: shared by all stores with this `name`, or of this store alone if it is empty.
    pub(crate) fn memory(name: &str) -> Result<Self, RemoteError> {
        static SHARED: LazyLock<Mutex<HashMap<String, Remote>>> = LazyLock::new(Mutex::default);
        let new = || {
            let operator = Operator::new(services::Memory::default())?.finish();
            Ok(Self::Opendal(operator))
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
        // opendal does not choose one, and rustls refuses to if a build has several. Fails if the program has chosen
        // already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let s3 = services::S3::default().bucket(bucket).root(&format!("/{prefix}/{ROOT}"));
        Ok(Self::Opendal(Operator::new(s3)?.finish()))
    }

    /// The bytes under `key`. A Redis returns one byte more than `longest` at most.
    pub(crate) async fn read(
        &self,
        key: BlockKey,
        longest: usize,
    ) -> Result<Option<Bytes>, RemoteError> {
        match self {
            Self::Redis(redis) => Ok(redis.read(key, longest).await?),
            Self::Opendal(operator) => match operator.read(&path(&key)).await {
                Ok(block) => Ok(Some(block.to_bytes())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Whether there is something under `key`.
    pub(crate) async fn exists(&self, key: BlockKey) -> Result<bool, RemoteError> {
        match self {
            Self::Redis(redis) => Ok(redis.exists(key).await?),
            Self::Opendal(operator) => Ok(operator.exists(&path(&key)).await?),
        }
    }

    /// Puts `block` under `key`.
    pub(crate) async fn write(&self, key: BlockKey, block: Bytes) -> Result<(), RemoteError> {
        match self {
            Self::Redis(redis) => redis.write(key, &block).await?,
            Self::Opendal(operator) => {
                operator.write(&path(&key), block).await?;
            }
        }
        Ok(())
    }

    /// Deletes the block under `key`, if there is one.
    pub(crate) async fn delete(&self, key: BlockKey) -> Result<(), RemoteError> {
        match self {
            Self::Redis(redis) => redis.delete(key).await?,
            Self::Opendal(operator) => operator.delete(&path(&key)).await?,
        }
        Ok(())
    }

    /// The keys and lengths of all blocks.
    pub(crate) async fn list(&self) -> Result<Vec<(BlockKey, u64)>, RemoteError> {
        let operator = match self {
            Self::Redis(redis) => return Ok(redis.list().await?),
            Self::Opendal(operator) => operator,
        };
        let mut entries = operator.lister("").await?;
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
