//! Redis, with a server in this process.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/log.rs"]
mod log;
mod server;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use colm_kv_store::{KvStore, PrefixEnd, StoreOptions};
use common::{key, open, options, read, read_prefix, write};
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

    log::record();
    let wrong = open(options(&url("wrong-secret")));
    assert_fails_at_once(&wrong, "authentication failed", &server.address.to_string()).await;
    assert_eq!(log::lines_with("wrong-secret"), [""; 0]);
}

/// The store has a minute, and the error is logged with its reason.
async fn assert_fails_at_once(store: &KvStore, reason: &str, address: &str) {
    let begin = Instant::now();
    assert_eq!(read_prefix(store, 0..23).await.end, PrefixEnd::Failed);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let lines = log::lines_with(address);
    assert!(lines.iter().any(|line| line.contains(reason)), "{lines:?}");
    let counts = store.counts();
    assert_eq!((counts.failed_reads, counts.timed_out_reads), (1, 0));
}

#[tokio::test]
async fn a_refused_connection_fails_at_once() {
    log::record();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = open(options(&format!("redis://{address}")));
    assert_fails_at_once(&store, "refused", &address.to_string()).await;
}

/// It accepts connections and says nothing.
#[tokio::test]
async fn connecting_takes_half_of_the_time_out() {
    let server = Server::start(None);
    server.set_silent(true);
    let timeout = Duration::from_secs(4);
    let url = format!("redis://:password@{}/1", server.address);
    let store = open(StoreOptions { timeout, ..options(&url) });
    let begin = Instant::now();
    assert_eq!(read_prefix(&store, 0..3).await.end, PrefixEnd::Failed);
    assert!(begin.elapsed() < timeout, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_read_that_times_out_names_the_last_error() {
    log::record();
    let server = Server::start(None);
    let timeout = Duration::from_millis(500);
    let url = format!("redis://{}", server.address);
    let store = open(StoreOptions { timeout, ..options(&url) });
    write(&store, [0]).await;
    server.set_failing(true);
    assert_eq!(read_prefix(&store, [0]).await.end, PrefixEnd::Failed);
    server.set_failing(false);
    server.set_silent(true);
    assert_eq!(read_prefix(&store, [0]).await.end, PrefixEnd::TimedOut);
    let lines = log::lines_with("blocks of a prompt arrived");
    assert!(
        lines.iter().any(|line| line.contains(&url) && line.contains("the disk is on fire")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn known_blocks_are_refreshed() {
    let server = Server::start(None);
    write(&redis(&server), 0..40).await;
    let store = redis(&server);
    let keys: Vec<_> = (0..50).map(key).collect();
    assert_eq!(store.refresh_known(&keys).await, 40);
    assert!(store.is_known(&key(39)) && !store.is_known(&key(40)));
    server.restart_empty();
    assert_eq!(store.refresh_known(&keys).await, 0);
    assert!(!store.is_known(&key(39)));
}

/// Whoever writes to the server could otherwise fill this process's memory.
#[tokio::test]
async fn no_more_of_a_value_is_read_than_a_block_has() {
    let server = Server::start(None);
    let store = redis(&server);
    write(&store, 0..2).await;
    server.lengthen(50 << 20);
    let prefix = read_prefix(&store, 0..2).await;
    assert_eq!((prefix.payloads.len(), prefix.end), (0, PrefixEnd::Damaged));
    assert!(server.longest_answer() < 10_000, "{}", server.longest_answer());
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
    // The cut connections are replaced, and nothing fails.
    assert_eq!(read_prefix(&store, 0..20).await.end, PrefixEnd::Missing);
    write(&store, 0..20).await;
    assert_eq!(read(&store, 0..20).await, 20);
    assert_eq!(server.keys().len(), 20);
}

/// It stays up, so that no connection is cut.
#[tokio::test]
async fn connections_to_a_server_that_has_become_a_replica_are_replaced() {
    let server = Server::start(None);
    let store = redis(&server);
    write(&store, 0..20).await;
    server.fail_over();
    // One write notices it, for all connections.
    write(&store, [20]).await;
    assert_eq!(store.counts().failed_writes, 1);
    write(&store, 20..40).await;
    assert_eq!(store.counts().failed_writes, 1);
    server.fail_over();
    assert_eq!(read_prefix(&store, [0]).await.end, PrefixEnd::Failed);
    assert_eq!(read(&store, 0..40).await, 40);
    assert_eq!((store.counts().failed_reads, server.keys().len()), (1, 40));
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
        while !store.counts().read_circuit_open {
            assert_eq!(read(&store, 0..3).await, 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reads).await.expect("a read hangs");
    server.set_silent(false);
    until(async || read(&store, 0..3).await == 3).await;
    assert!(!store.counts().read_circuit_open);
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
