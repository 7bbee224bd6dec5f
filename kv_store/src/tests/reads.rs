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
    assert_eq!((counts.failed_reads, counts.read_circuit_open), (0, false));
}

#[tokio::test]
async fn no_flipped_bit_is_accepted() {
    // A good block before it keeps the circuit closed.
    let setup = setup().stored([0, 1]).await;
    let mut damaged = 0;
    for i in 0..1000 {
        setup.fault(1, Fault::FlipBit(i * 7919));
        let prefix = setup.read_until([0, 1], None).await;
        assert_eq!(prefix.payloads.len(), 1, "bit {}", i * 7919);
        // One in the version makes it the block of another version.
        damaged += u64::from(prefix.end == PrefixEnd::Damaged);
    }
    assert!(damaged > 900);
    assert_eq!(setup.counts().damaged_blocks, damaged);
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
    let setup = setup().stored([0, 1]).await;
    let mut other = wanted([0]);
    other[0].tokens[15] += 1;
    let read = async |wanted: Vec<WantedBlock>, len| {
        let prefix = setup.store.read_prefix(wanted, len, None).await;
        assert!(prefix.payloads.is_empty(), "{len}");
        // Three damaged blocks would open the circuit.
        assert_eq!(setup.read([1]).await, 1);
        prefix.end
    };
    assert_eq!(read(other, LEN).await, PrefixEnd::Damaged);
    for len in [0, LEN - 1, LEN + 1] {
        assert_eq!(read(wanted([0]), len).await, PrefixEnd::Damaged);
    }
    assert_eq!(read(wanted([0]), usize::MAX).await, PrefixEnd::Missing);
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
    assert_eq!(
        (counts.failed_reads, counts.missing_blocks, counts.read_circuit_open),
        (1, 0, false)
    );
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
    let reading = setup.store.read_prefix(wanted([0]), LEN, None);
    assert!(tokio::time::timeout(Duration::from_millis(50), reading).await.is_err());
    while setup.faulty.running() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let counts = setup.counts();
    assert_eq!((counts.failed_reads, counts.timed_out_reads), (0, 0));
}

#[tokio::test]
async fn the_end_says_why_there_are_no_more() {
    let setup =
        with_options(Duration::from_secs(2), 1 << 30).stored((0..10).filter(|i| *i != 3)).await;
    assert_eq!(setup.end([]).await, PrefixEnd::Complete);
    assert_eq!(setup.end(0..3).await, PrefixEnd::Complete);
    assert_eq!(setup.end(0..10).await, PrefixEnd::Missing);
    setup.fault(3, Fault::FlipBit(1234));
    setup.fault(1, Fault::FlipBit(1234));
    assert_eq!(setup.end(0..10).await, PrefixEnd::Damaged);
    setup.fault(1, Fault::Hang);
    assert_eq!(setup.end(0..10).await, PrefixEnd::TimedOut);
    setup.fault(1, Fault::Fail);
    assert_eq!(setup.end(0..10).await, PrefixEnd::Failed);
    for _ in 0..2 {
        setup.end(1..2).await;
    }
    assert_eq!(setup.end(0..10).await, PrefixEnd::Refused);
    use PrefixEnd::*;
    let healthy =
        [Complete, Missing, Damaged, Failed, TimedOut, Refused].map(PrefixEnd::is_healthy);
    assert_eq!(healthy, [true, true, false, false, false, false]);
}

#[tokio::test]
async fn the_caller_can_set_a_deadline() {
    let setup = setup().stored(0..3).await;
    assert_eq!(setup.store.timeout(), PATIENT);
    setup.fault(1, Fault::Hang);
    let begin = Instant::now();
    for _ in 0..5 {
        let deadline = Instant::now() + Duration::from_millis(200);
        let prefix = setup.read_until(0..3, Some(deadline)).await;
        assert_eq!((prefix.payloads.len(), prefix.end), (1, PrefixEnd::TimedOut));
        // It has no time at all, which says nothing about the store.
        setup.read_until(1..3, Some(Instant::now())).await;
    }
    assert!(begin.elapsed() < PATIENT / 2);
    assert!(!setup.counts().read_circuit_open);
}

#[tokio::test]
async fn what_does_not_arrive_is_forgotten() {
    for fault in [Fault::Hang, Fault::Fail] {
        let setup = with_options(Duration::from_secs(1), 1 << 30).stored(0..4).await;
        setup.fault(2, fault);
        assert_eq!(setup.read(0..4).await, 2);
        assert_eq!([0, 1, 2, 3].map(|i| setup.store.is_known(&key(i))), [true, true, false, false]);
    }
}

/// The engine computes a block while another request reads the prompt.
#[tokio::test]
async fn what_is_written_during_a_read_stays_known() {
    let setup = setup().stored([0]).await;
    setup.fault(0, Fault::Slow(Duration::from_millis(300)));
    let reading = setup.read(0..2);
    let writing = async {
        // Block 1 is looked for at once, and its absence is known after block 0.
        while setup.faulty.reads.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        setup.write(1);
        setup.store.flush().await;
    };
    let (found, ()) = tokio::join!(reading, writing);
    assert_eq!(found, 1);
    assert!(setup.store.is_known(&key(1)));
}

#[tokio::test]
async fn known_blocks_are_refreshed() {
    let setup = with_options(Duration::from_secs(1), 1 << 30).stored(0..50).await;
    let keys: Vec<_> = (0..60).map(key).collect();
    let known = || keys.iter().filter(|key| setup.store.is_known(key)).count();
    assert_eq!(setup.store.refresh_known(&keys).await, 50);
    assert_eq!(setup.store.refresh_known(&[]).await, 0);
    // The store loses a block, and gets others from another process.
    {
        let mut blocks = setup.faulty.blocks.lock().unwrap();
        blocks.remove(&key(40));
        (50..55).for_each(|i| drop(blocks.insert(key(i), vec![1])));
    }
    setup.faulty.most_running.store(0, Ordering::SeqCst);
    assert_eq!(setup.store.refresh_known(&keys).await, 40);
    assert_eq!((known(), setup.store.is_known(&key(40))), (54, false));
    assert!(setup.faulty.most_running.load(Ordering::SeqCst) <= WINDOW);
    // Without an answer, what is remembered counts.
    setup.fault(10, Fault::Hang);
    assert_eq!(setup.store.refresh_known(&keys).await, 40);
    assert_eq!(known(), 54);
    setup.all_reads(Some(Fault::Hang));
    for _ in 0..2 {
        setup.store.refresh_known(&keys[20..21]).await;
    }
    assert!(setup.counts().read_circuit_open);
    let asked = setup.faulty.reads.load(Ordering::SeqCst);
    assert_eq!(setup.store.refresh_known(&keys).await, 40);
    assert_eq!(setup.faulty.reads.load(Ordering::SeqCst), asked);
}
