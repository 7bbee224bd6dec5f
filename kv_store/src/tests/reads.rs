//! Reading the blocks of a prompt.

use std::sync::atomic::Ordering;

use super::*;
use crate::read::WINDOW;

#[tokio::test]
async fn the_longest_prefix_is_read() {
    let setup = setup().stored((0..50).filter(|i| *i != 37)).await;
    assert_eq!(setup.read(0..80).await, 37);
    assert_eq!(setup.read(38..50).await, 12);
    assert_eq!(setup.read([49, 0, 20]).await, 3, "in the order that was asked for");
    assert_eq!(setup.read([]).await, 0);
    let counts = setup.counts();
    assert_eq!(counts.read_blocks, 37 + 12 + 3);
    assert_eq!(counts.bytes_read, 52 * LEN as u64);
    assert_eq!(counts.missing_blocks, 80 - 37);
    assert_eq!((counts.failed_reads, counts.timed_out_reads, counts.damaged_blocks), (0, 0, 0));
}

#[tokio::test]
async fn a_missing_prefix_costs_one_round_trip() {
    let setup = setup();
    setup.all_reads(Some(Fault::Slow(Duration::from_millis(20))));
    assert_eq!(setup.read(0..1000).await, 0);
    assert_eq!(setup.faulty.reads.load(Ordering::SeqCst), WINDOW);
    assert_eq!(setup.faulty.most_running.load(Ordering::SeqCst), WINDOW);
}

#[tokio::test]
async fn so_many_blocks_are_read_at_once() {
    let setup = setup().stored(0..100).await;
    setup.all_reads(Some(Fault::Slow(Duration::from_millis(5))));
    assert_eq!(setup.read(0..100).await, 100);
    assert_eq!(setup.faulty.most_running.load(Ordering::SeqCst), WINDOW);
}

#[tokio::test]
async fn a_damaged_block_ends_the_prefix() {
    let setup = setup().stored(0..10).await;
    setup.fault(4, Fault::FlipBit(1234));
    assert_eq!(setup.read(0..10).await, 4);
    let counts = setup.counts();
    assert_eq!((counts.damaged_blocks, counts.missing_blocks), (1, 6));
    assert_eq!((counts.failed_reads, counts.circuit_open), (0, false));
}

#[tokio::test]
async fn no_flipped_bit_is_accepted() {
    let setup = setup().stored([0]).await;
    for i in 0..1000 {
        setup.fault(0, Fault::FlipBit(i * 7919));
        assert_eq!(setup.read([0]).await, 0, "bit {}", i * 7919);
    }
    assert_eq!(setup.counts().damaged_blocks, 1000);
}

#[tokio::test]
async fn the_block_of_another_key_is_not_accepted() {
    let setup = setup().stored(0..3).await;
    setup.fault(1, Fault::Lie(key(2)));
    assert_eq!(setup.read(0..3).await, 1);
    assert_eq!(setup.counts().damaged_blocks, 1);
}

#[tokio::test]
async fn other_tokens_and_lengths_are_not_accepted() {
    let setup = setup().stored([0]).await;
    let mut other = wanted([0]);
    other[0].tokens[15] += 1;
    assert!(setup.store.read_prefix(other, LEN).await.is_empty());
    for len in [0, LEN - 1, LEN + 1, usize::MAX] {
        assert!(setup.store.read_prefix(wanted([0]), len).await.is_empty(), "{len}");
    }
    // A block of usize::MAX bytes cannot exist, so it is not even looked for.
    assert_eq!(setup.counts().damaged_blocks, 4);
    assert_eq!(setup.read([0]).await, 1);
}

#[tokio::test]
async fn what_has_arrived_in_time_is_returned() {
    let setup = with_options(Duration::from_secs(2), 1 << 30).stored(0..30).await;
    setup.fault(20, Fault::Hang);
    assert_eq!(setup.read(0..30).await, 20);
    let counts = setup.counts();
    assert_eq!((counts.timed_out_reads, counts.failed_reads, counts.missing_blocks), (1, 0, 0));
    assert_eq!(counts.read_blocks, 20);
}

#[tokio::test]
async fn an_error_ends_the_prefix() {
    let setup = setup().stored(0..10).await;
    setup.fault(3, Fault::Fail);
    assert_eq!(setup.read(0..10).await, 3);
    let counts = setup.counts();
    assert_eq!((counts.failed_reads, counts.missing_blocks, counts.circuit_open), (1, 0, false));
}

#[tokio::test]
async fn the_rate_is_that_of_reads_with_blocks() {
    let setup = setup().stored(0..10).await;
    assert_eq!(setup.read([99]).await, 0);
    assert_eq!(setup.store.read_rate(), None);
    setup.all_reads(Some(Fault::Slow(Duration::from_millis(20))));
    assert_eq!(setup.read(0..10).await, 10);
    // All ten at once take at least 20 ms.
    let rate = setup.store.read_rate().unwrap();
    assert!(rate > 0.0 && rate <= 10.0 * LEN as f64 / 0.020, "{rate}");
}

/// The engine's thread need not run tokio.
#[test]
fn any_executor_can_read_and_flush() {
    let setup = setup();
    futures::executor::block_on(async {
        let setup = setup.stored(0..5).await;
        assert_eq!(setup.read(0..5).await, 5);
    });
}

#[tokio::test]
async fn an_abandoned_read_is_stopped() {
    let setup = setup().stored([0]).await;
    setup.fault(0, Fault::Hang);
    let reading = setup.store.read_prefix(wanted([0]), LEN);
    assert!(tokio::time::timeout(Duration::from_millis(50), reading).await.is_err());
    while setup.faulty.running() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let counts = setup.counts();
    assert_eq!((counts.failed_reads, counts.timed_out_reads), (0, 0));
}
