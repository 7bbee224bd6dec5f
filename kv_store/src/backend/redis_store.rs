//! Blocks in a Redis database, among its other keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
};
use tokio::sync::Semaphore;

use super::remote::{key_of, path, ROOT};
use crate::store_url::RedisAddress;
use crate::BlockKey;

/// The number of keys that Redis looks at per SCAN.
const KEYS_AT_ONCE: usize = 1000;

/// How long a server may take.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// To connect, with everything up to the first command.
    pub connect: Duration,
    /// To answer a command. `None` is no limit.
    pub answer: Option<Duration>,
}

/// A Redis database. An error of it is returned at once and nothing is tried again, except on a connection that was
/// cut while it was not used.
pub(crate) struct RedisStore {
    client: Client,
    config: AsyncConnectionConfig,
    /// A permit for each connection.
    room: Semaphore,
    /// Connections that nobody uses now. Each operation has one of its own, so that a large block does not hold up the
    /// others.
    idle: Mutex<Vec<MultiplexedConnection>>,
}

impl RedisStore {
    /// Nothing is connected yet.
    pub(crate) fn new(
        address: &RedisAddress,
        patience: Patience,
        connections: usize,
    ) -> RedisResult<Self> {
        if address.tls {
            // rustls refuses to choose one if a build has several. Fails if the program has chosen already, which is
            // as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience.connect))
            .set_response_timeout(patience.answer);
        Ok(Self {
            client: client(address)?,
            config,
            room: Semaphore::new(connections),
            idle: Mutex::default(),
        })
    }

    /// The bytes under `key`, up to `longest` and one more.
    pub(crate) async fn read(&self, key: BlockKey, longest: usize) -> RedisResult<Option<Bytes>> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(name(&key)).arg(0).arg(longest);
        let value: Vec<u8> = self.run(&command).await?;
        // Also if there is no such key.
        Ok((!value.is_empty()).then(|| value.into()))
    }

    /// Whether there is something under `key`.
    pub(crate) async fn exists(&self, key: BlockKey) -> RedisResult<bool> {
        self.run(redis::cmd("EXISTS").arg(name(&key))).await
    }

    /// Puts `block` under `key`.
    pub(crate) async fn write(&self, key: BlockKey, block: &[u8]) -> RedisResult<()> {
        self.run(redis::cmd("SET").arg(name(&key)).arg(block)).await
    }

    /// Deletes the block under `key`, if there is one.
    pub(crate) async fn delete(&self, key: BlockKey) -> RedisResult<()> {
        self.run(redis::cmd("DEL").arg(name(&key))).await
    }

    /// The keys and lengths of all blocks, in the order of their keys.
    pub(crate) async fn list(&self) -> RedisResult<Vec<(BlockKey, u64)>> {
        let mut connection = self.connect().await?;
        // SCAN may return a key more than once.
        let mut blocks = BTreeMap::new();
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{ROOT}/*")).arg("COUNT").arg(KEYS_AT_ONCE);
            let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            let keys: Vec<_> =
                names.iter().filter_map(|name| key_of(name_of_block(name)?)).collect();
            let mut lengths = redis::pipe();
            for key in &keys {
                lengths.cmd("STRLEN").arg(name(key));
            }
            if !keys.is_empty() {
                let lengths: Vec<u64> = lengths.query_async(&mut connection).await?;
                blocks.extend(keys.into_iter().zip(lengths));
            }
            cursor = next;
            if cursor == 0 {
                return Ok(blocks.into_iter().collect());
            }
        }
    }

    /// Runs a command on a connection of its own. One that is abandoned meanwhile is closed.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let _room = self.room.acquire().await;
        let idle = self.idle().pop();
        if let Some(mut connection) = idle {
            match command.query_async(&mut connection).await {
                Err(error) if error.is_connection_dropped() && !error.is_timeout() => {
                    // The server was restarted, so the others are cut as well.
                    self.idle().clear();
                }
                answer => {
                    match &answer {
                        // The idle connections lead to the same replica. A new connection reaches the primary.
                        Err(error) if comes_from_a_replica(error) => self.idle().clear(),
                        Err(error) if error.is_unrecoverable_error() => {}
                        // An error of the command leaves the connection as it is.
                        _ => self.idle().push(connection),
                    }
                    return answer;
                }
            }
        }
        let mut connection = self.connect().await?;
        let answer = command.query_async(&mut connection).await?;
        self.idle().push(connection);
        Ok(answer)
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.client.get_multiplexed_async_connection_with_config(&self.config).await
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server refused the command because it is a replica: after a failover, the address may lead to another
/// server, while the old one keeps its connections.
fn comes_from_a_replica(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}

/// The name of a block in Redis.
fn name(key: &BlockKey) -> String {
    format!("{ROOT}/{}", path(key))
}

/// What follows [`ROOT`] in the name of a key.
fn name_of_block(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()?.strip_prefix(ROOT)?.strip_prefix('/')
}

/// A client for `address`. Nothing is connected yet.
fn client(address: &RedisAddress) -> RedisResult<Client> {
    let RedisAddress { tls, host, port, database, user, password } = address;
    let (host, port) = (host.clone(), *port);
    let server = if *tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut login = RedisConnectionInfo::default().set_db(*database);
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(password);
    }
    Client::open(server.into_connection_info()?.set_redis_settings(login))
}
