//! The blocks of a Redis database, among its other keys.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult,
};

use super::remote::{key_of, path, ROOT};
use crate::store_url::RedisAddress;
use crate::BlockKey;

/// Redis looks at so many keys per SCAN.
const KEYS_AT_ONCE: usize = 1000;

/// How long one command may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The keys and lengths of all blocks, in the order of their keys.
pub(super) async fn list(address: &RedisAddress) -> RedisResult<Vec<(BlockKey, u64)>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    let client = client(address)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // SCAN may return a key more than once.
    let mut blocks = BTreeMap::new();
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{ROOT}/*")).arg("COUNT").arg(KEYS_AT_ONCE);
        let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
        let keys: Vec<_> = names.iter().filter_map(|name| key_of(name_of_block(name)?)).collect();
        let mut lengths = redis::pipe();
        for key in &keys {
            lengths.cmd("STRLEN").arg(format!("{ROOT}/{}", path(key)));
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
