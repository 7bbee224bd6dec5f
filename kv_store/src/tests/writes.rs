//! Writing blocks, and remembering which need not be written.

use std::sync::atomic::Ordering;

use super::*;
use crate::read::BYTES_AT_ONCE;
use crate::writer::WRITES;

fn written(setup: &Setup) -> usize {
    setup.faulty.writes.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_block_is_written_once() {
    let setup = setup();
    assert!(!setup.store.is_known(&key(0)));
    // The second is queued, the third known.
    setup.write(0);
    setup.write(0);
    setup.store.flush().await;
    setup.write(0);
    setup.store.flush().await;
    assert!(setup.store.is_known(&key(0)));
    assert_eq!(written(&setup), 1);
    let counts = setup.counts();
    assert_eq!((counts.written_blocks, counts.bytes_written), (1, LEN as u64));
    assert_eq!((counts.dropped_blocks, counts.queued_bytes), (0, 0));
}

#[tokio::test]
async fn a_block_is_queued_and_then_known() {
    let setup = setup();
    let there = || setup.store.is_known_or_queued(&key(0));
    assert!(!there());
    setup.fault(0, Fault::Slow(Duration::from_millis(100)));
    setup.write(0);
    // At any moment.
    while !setup.store.is_known(&key(0)) {
        assert!(there());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(there());
    setup.fault(1, Fault::Fail);
    setup.write(1);
    setup.store.flush().await;
    assert!(!setup.store.is_known_or_queued(&key(1)), "it could not be written");
}

#[tokio::test]
async fn a_block_that_was_read_is_not_written() {
    let first = setup().stored(0..3).await;
    let second = setup();
    let blocks = first.faulty.blocks.lock().unwrap().clone();
    *second.faulty.blocks.lock().unwrap() = blocks;
    assert_eq!(second.read(0..3).await, 3);
    (0..3).for_each(|i| second.write(i));
    second.store.flush().await;
    assert_eq!(written(&second), 0);
}

#[tokio::test]
async fn a_full_queue_drops_blocks() {
    let setup = with_options(PATIENT, 3 * LEN + LEN / 2);
    setup.all_writes(Some(Fault::Hang));
    (0..10).for_each(|i| setup.write(i));
    let counts = setup.counts();
    assert_eq!((counts.dropped_blocks, counts.queued_bytes), (7, 3 * LEN as u64));
    assert!(!setup.store.is_known(&key(0)) && !setup.store.is_known(&key(9)));
}

#[tokio::test]
async fn what_would_not_be_written_is_not_copied() {
    let setup = with_options(PATIENT, LEN);
    // The error of the copy, if it is made.
    let copy = |i| setup.store.write(new_block(i, &tokens(i)), LEN, |_| Err(())).is_err();
    assert!(copy(0));
    setup.write(0);
    setup.store.flush().await;
    assert!(!copy(0), "it is known");
    setup.all_writes(Some(Fault::Hang));
    setup.write(1);
    assert!(!copy(1), "it waits");
    assert_eq!(setup.counts().dropped_blocks, 0);
    assert!(!copy(2), "there is no room");
    assert_eq!(setup.counts().dropped_blocks, 1);
}

#[tokio::test]
async fn a_copy_that_fails_leaves_its_place() {
    let setup = with_options(PATIENT, LEN);
    assert_eq!(
        setup.store.write(new_block(0, &tokens(0)), LEN, |_| Err("unreadable")),
        Err("unreadable")
    );
    setup.store.flush().await;
    assert_eq!((written(&setup), setup.counts().queued_bytes), (0, 0));
    setup.write(0);
    setup.store.flush().await;
    assert_eq!(setup.read([0]).await, 1);
}

#[tokio::test]
async fn the_queue_has_room_again_after_writes() {
    let setup = with_options(PATIENT, 2 * LEN);
    for i in 0..50 {
        setup.write(2 * i);
        setup.write(2 * i + 1);
        setup.store.flush().await;
    }
    let counts = setup.counts();
    assert_eq!((counts.dropped_blocks, counts.written_blocks), (0, 100));
    assert_eq!(setup.read(0..100).await, 100);
}

/// Waits until `writes` writes hang, and then a moment for others that should not begin.
async fn hanging(setup: &Setup, writes: usize) {
    while setup.faulty.running() < writes {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(written(setup), writes);
}

#[tokio::test]
async fn so_many_blocks_are_written_at_once() {
    let setup = setup();
    setup.all_writes(Some(Fault::Hang));
    (0..60).for_each(|i| setup.write(i));
    hanging(&setup, WRITES).await;
}

#[tokio::test]
async fn large_blocks_are_written_a_few_at_a_time() {
    let setup = setup();
    setup.all_writes(Some(Fault::Hang));
    (0..5).for_each(|i| setup.write_payload(i, &vec![7; BYTES_AT_ONCE / 2]));
    hanging(&setup, 2).await;
}

#[tokio::test]
async fn large_blocks_are_read_a_few_at_a_time() {
    let setup = setup();
    let large = vec![7; BYTES_AT_ONCE / 2];
    (0..5).for_each(|i| setup.write_payload(i, &large));
    setup.store.flush().await;
    setup.faulty.most_running.store(0, Ordering::SeqCst);
    setup.all_reads(Some(Fault::Slow(Duration::from_millis(20))));
    let read = async || setup.store.read_prefix(wanted(0..5), large.len(), None).await.payloads;
    let (first, second) = tokio::join!(read(), read());
    assert!(first.len() == 5 && first.iter().all(|payload| *payload == large));
    assert!(first == second);
    assert_eq!(setup.faulty.most_running.load(Ordering::SeqCst), 2);

    // A block that is larger than all together may be goes alone.
    setup.write_payload(9, &vec![7; BYTES_AT_ONCE + 1]);
    setup.store.flush().await;
    let prefix = setup.store.read_prefix(wanted([9]), BYTES_AT_ONCE + 1, None).await;
    assert_eq!(prefix.payloads.len(), 1);
}

/// As on a full disk.
#[tokio::test]
async fn failed_writes_are_counted_and_nothing_else() {
    let setup = setup().stored([0]).await;
    setup.all_writes(Some(Fault::Fail));
    setup.write(1);
    setup.store.flush().await;
    assert!(!setup.store.is_known(&key(1)));
    let counts = setup.counts();
    assert_eq!((counts.failed_writes, counts.written_blocks), (1, 1));
    assert_eq!(setup.read([0]).await, 1);
    setup.all_writes(None);
    setup.write(1);
    setup.store.flush().await;
    assert_eq!(setup.read([0, 1]).await, 2);
}

#[tokio::test]
async fn flush_does_not_wait_for_a_write_that_hangs() {
    let setup = with_options(Duration::from_millis(20), 1 << 30);
    setup.fault(0, Fault::Hang);
    let setup = setup.stored(0..3).await;
    let counts = setup.counts();
    assert_eq!((counts.failed_writes, counts.written_blocks, counts.queued_bytes), (1, 2, 0));
}

#[tokio::test]
async fn a_missing_block_and_those_after_it_are_written_again() {
    let setup = setup().stored(0..6).await;
    // The store lost two blocks, for example because it was full.
    setup.faulty.blocks.lock().unwrap().retain(|found, _| ![2, 4].map(key).contains(found));
    assert_eq!(setup.read(0..6).await, 2);
    assert_eq!([1, 2, 3, 4].map(|i| setup.store.is_known(&key(i))), [true, false, false, false]);
    let setup = setup.stored(0..6).await;
    assert_eq!(setup.read(0..6).await, 6);
    assert_eq!(written(&setup), 6 + 4);
}

#[tokio::test]
async fn a_store_that_loses_blocks_gets_them_again() {
    let setup = setup();
    setup.all_writes(Some(Fault::Lie(key(0))));
    let setup = setup.stored([1]).await;
    assert!(setup.store.is_known(&key(1)));
    assert_eq!(setup.read([1]).await, 0);
    setup.all_writes(None);
    let setup = setup.stored([1]).await;
    assert_eq!(setup.read([1]).await, 1);
}

/// A server that was restarted may be empty.
#[tokio::test]
async fn after_an_error_nothing_is_known() {
    let setup = setup().stored(0..3).await;
    setup.all_reads(Some(Fault::Fail));
    assert_eq!(setup.read([0]).await, 0);
    assert!(!(0..3).any(|i| setup.store.is_known(&key(i))));
    let setup = setup.stored(0..3).await;
    assert_eq!(written(&setup), 6);
    setup.fault(3, Fault::Fail);
    let setup = setup.stored([3]).await;
    assert!(!(0..3).any(|i| setup.store.is_known(&key(i))));
}

#[tokio::test]
async fn the_last_handle_may_be_dropped_in_async_code() {
    let setup = setup();
    setup.all_writes(Some(Fault::Hang));
    setup.write(0);
    let other = setup.store.clone();
    drop(setup.store);
    assert_eq!(other.counts().queued_bytes, LEN as u64);
    drop(other);
}
