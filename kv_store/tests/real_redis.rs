//! A real Redis or Valkey:
//!
//! ```sh
//! COLM_REDIS_URL=redis://127.0.0.1:6379/15 cargo test -p colm-kv-store --test real_redis -- --ignored --test-threads 1
//! ```
//!
//! The database is emptied, and all clients of the server are disconnected.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use colm_kv_store::{check, stat, PrefixEnd, StoreUrl};
use common::{key, open, options, read, read_prefix, wanted, write, write_payload};
use url::Url;

fn address() -> String {
    std::env::var("COLM_REDIS_URL").expect("COLM_REDIS_URL names a database that may be emptied")
}

/// Runs commands on a connection of their own.
fn commands(commands: &[&str]) {
    let url = Url::parse(&address()).unwrap();
    let host = url.host_str().expect("COLM_REDIS_URL has a host");
    let stream = TcpStream::connect((host, url.port().unwrap_or(6379))).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    let mut run = |command: &str| {
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let answer = answers.next().expect("an answer").unwrap();
        assert!(!answer.starts_with('-'), "{command}: {answer}");
    };
    if let Some(password) = url.password() {
        run(&format!("AUTH {password}"));
    }
    run(&format!("SELECT {}", url.path().trim_matches('/').parse().unwrap_or(0)));
    commands.iter().for_each(|command| run(command));
}

#[tokio::test]
#[ignore = "needs COLM_REDIS_URL"]
async fn blocks_are_found_by_another_process() {
    commands(&["FLUSHDB"]);
    let store = open(options(&address()));
    assert_eq!(read(&store, 0..100).await, 0);
    write(&store, 0..100).await;
    assert_eq!(store.counts().failed_writes, 0);
    assert_eq!(read(&open(options(&address())), 0..200).await, 100);
}

#[tokio::test]
#[ignore = "needs COLM_REDIS_URL"]
async fn large_blocks_are_stored() {
    commands(&["FLUSHDB"]);
    let (store, payload) = (open(options(&address())), vec![0x5a; 8 << 20]);
    (0..8).for_each(|i| write_payload(&store, i, &payload));
    store.flush().await;
    assert_eq!(store.counts().written_blocks, 8);
    let begin = Instant::now();
    let payloads = store.read_prefix(wanted(0..8), payload.len(), None).await.payloads;
    println!("8 blocks of 8 MiB in {:?}", begin.elapsed());
    assert!(payloads.len() == 8 && payloads.iter().all(|found| *found == payload));
}

/// As a server that is restarted without its data.
#[tokio::test]
#[ignore = "needs COLM_REDIS_URL"]
async fn a_server_that_lost_everything_is_filled_again() {
    commands(&["FLUSHDB"]);
    let store = open(options(&address()));
    write(&store, 0..20).await;
    assert_eq!(read(&store, 0..20).await, 20);
    commands(&["FLUSHDB", "CLIENT KILL TYPE normal SKIPME yes"]);
    let filled = async {
        loop {
            read(&store, 0..20).await;
            write(&store, 0..20).await;
            if read(&store, 0..20).await == 20 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), filled).await.expect("it stays empty");
    assert_eq!(read(&open(options(&address())), 0..20).await, 20);
}

#[tokio::test]
#[ignore = "needs COLM_REDIS_URL"]
async fn blocks_are_listed_checked_and_looked_up() {
    commands(&["FLUSHDB", "SET colm-kv/other value"]);
    let store = open(options(&address()));
    write(&store, 0..50).await;
    let url: StoreUrl = address().parse().unwrap();
    let found = stat(&url).await.unwrap();
    assert_eq!(found.blocks, 50);
    let report = check(&url, true, |_| {}).await.unwrap();
    assert_eq!((report.checked, report.bytes, report.damaged), (50, found.bytes, vec![]));
    commands(&[&format!("DEL colm-kv/{}.kv", key(40)), &format!("SET colm-kv/{}.kv x", key(41))]);
    let keys: Vec<_> = (0..60).map(key).collect();
    assert_eq!(store.refresh_known(&keys).await, 40);
    let report = check(&url, true, |_| {}).await.unwrap();
    assert_eq!((report.checked, report.damaged.len(), report.deleted), (49, 1, 1));
    assert_eq!(stat(&url).await.unwrap().blocks, 48);
}

#[tokio::test]
#[ignore = "needs COLM_REDIS_URL"]
async fn a_wrong_password_fails_at_once() {
    let mut url = Url::parse(&address()).unwrap();
    url.set_username("nobody").unwrap();
    url.set_password(Some("wrong")).unwrap();
    let begin = Instant::now();
    let prefix = read_prefix(&open(options(url.as_str())), 0..23).await;
    assert_eq!(prefix.end, PrefixEnd::Failed);
    assert!(begin.elapsed() < Duration::from_secs(10));
}
