//! Redis through opendal, with a server in this process.

#[path = "../common/mod.rs"]
mod common;
mod server;

use std::net::TcpListener;
use std::time::Duration;

use colm_kv_store::{KvStore, StoreOptions};
use common::{key, open, options, read, write};
use server::Server;

fn redis(server: &Server) -> KvStore {
    open(options(&format!("redis://{}", server.address)))
}

#[tokio::test]
async fn blocks_are_strings_under_a_prefix() {
    let server = Server::start(None);
    let store = redis(&server);
    assert_eq!(read(&store, 0..5).await, 0);
    write(&store, 0..50).await;
    assert_eq!(store.counts().failed_writes, 0);
    let mut expected: Vec<_> =
        (0..50).map(|i| ("0".to_string(), format!("colm-kv/{}.kv", key(i)))).collect();
    let mut keys = server.keys();
    expected.sort();
    keys.sort();
    assert_eq!(keys, expected);
    // Another process.
    assert_eq!(read(&redis(&server), 0..60).await, 50);
}

#[tokio::test]
async fn password_and_database_are_used() {
    let server = Server::start(Some("p@ss/word"));
    let url = |password: &str| format!("redis://:{password}@{}/7", server.address);
    let store = open(options(&url("p%40ss%2Fword")));
    write(&store, [0]).await;
    assert_eq!(read(&store, [0]).await, 1);
    assert_eq!(server.keys(), [("7".into(), format!("colm-kv/{}.kv", key(0)))]);

    let timeout = Duration::from_secs(2);
    let wrong = open(StoreOptions { timeout, ..options(&url("wrong")) });
    assert_eq!(read(&wrong, [0]).await, 0);
    let counts = wrong.counts();
    assert_eq!(counts.failed_reads + counts.timed_out_reads, 1, "{counts:?}");
}

#[tokio::test]
async fn a_damaged_value_is_written_again() {
    let server = Server::start(None);
    let store = redis(&server);
    write(&store, 0..3).await;
    server.damage();
    assert_eq!(read(&store, 0..3).await, 0);
    write(&store, 0..3).await;
    assert_eq!(read(&store, 0..3).await, 3);
}

/// The store is opened before the server is there, and finds it later.
#[tokio::test]
async fn a_server_that_is_down_is_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("redis://{address}");
    let store = open(StoreOptions { timeout: Duration::from_secs(1), ..options(&url) });
    assert_eq!(read(&store, 0..3).await, 0);
    let counts = store.counts();
    assert_eq!((counts.missing_blocks, counts.failed_reads + counts.timed_out_reads), (0, 1));

    let _server = Server::start_at(address, None);
    until(async || {
        write(&store, 0..3).await;
        read(&store, 0..3).await == 3
    })
    .await;
}

#[tokio::test]
async fn a_server_that_lost_everything_is_filled_again() {
    let server = Server::start(None);
    let store = redis(&server);
    write(&store, 0..20).await;
    assert_eq!(read(&store, 0..20).await, 20);
    server.restart_empty();
    // The first operations may find a cut connection. No later one is served from what was known.
    until(async || {
        read(&store, 0..20).await;
        write(&store, 0..20).await;
        read(&store, 0..20).await == 20
    })
    .await;
    assert_eq!(server.keys().len(), 20);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let server = Server::start(None);
    let store = open(StoreOptions {
        timeout: Duration::from_millis(200),
        ..options(&format!("redis://{}", server.address))
    });
    write(&store, 0..3).await;
    server.set_silent(true);
    let reads = async {
        while !store.counts().circuit_open {
            assert_eq!(read(&store, 0..3).await, 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reads).await.expect("a read hangs");
    server.set_silent(false);
    until(async || read(&store, 0..3).await == 3).await;
    assert!(!store.counts().circuit_open);
}

/// Repeats `done` until it is true.
async fn until(done: impl AsyncFn() -> bool) {
    let repeated = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), repeated).await.expect("it never happens");
}
