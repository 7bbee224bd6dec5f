//! The circuit breakers in the store: when reads and writes rest.

use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn reads_rest_after_failures_and_return_after_a_trial() {
    let setup = setup().stored(0..3).await;
    setup.all_reads(Some(Fault::Fail));
    for _ in 0..3 {
        assert!(!setup.counts().read_circuit_open);
        assert_eq!(setup.read(0..3).await, 0);
    }
    assert!(setup.counts().read_circuit_open);

    // Not even asked, although it would answer.
    setup.all_reads(None);
    let asked = setup.faulty.reads.load(Ordering::SeqCst);
    assert_eq!(setup.read(0..3).await, 0);
    assert_eq!(setup.faulty.reads.load(Ordering::SeqCst), asked);
    assert_eq!(setup.counts().failed_reads, 3);

    pass(&setup.reads, 1);
    assert_eq!(setup.read(0..3).await, 3);
    assert!(!setup.counts().read_circuit_open);
}

#[tokio::test]
async fn reads_rest_after_time_outs_without_any_block() {
    let setup = with_options(Duration::from_millis(20), 1 << 30);
    setup.all_reads(Some(Fault::Hang));
    for _ in 0..3 {
        assert_eq!(setup.read(0..3).await, 0);
    }
    let counts = setup.counts();
    assert_eq!((counts.timed_out_reads, counts.read_circuit_open), (3, true));
}

/// As a store whose server answers with the values of other keys.
#[tokio::test]
async fn reads_rest_after_damage_without_any_block() {
    let setup = setup().stored(0..2).await;
    setup.fault(0, Fault::Lie(key(1)));
    for _ in 0..3 {
        assert_eq!(setup.read(0..2).await, 0);
    }
    let counts = setup.counts();
    assert_eq!((counts.damaged_blocks, counts.read_circuit_open), (3, true));
}

/// Each request would wait for it and get nothing.
#[tokio::test]
async fn reads_rest_when_a_store_is_slow_and_empty() {
    for (millis, open) in [(10, false), (700, true)] {
        let setup = with_options(Duration::from_secs(1), 1 << 30);
        setup.all_reads(Some(Fault::Slow(Duration::from_millis(millis))));
        for _ in 0..3 {
            assert_eq!(setup.end(0..2).await, PrefixEnd::Missing);
        }
        assert_eq!(setup.counts().read_circuit_open, open, "{millis} ms");
    }
}

/// A long prompt takes longer than the time-out on a store that works.
#[tokio::test]
async fn reads_go_on_after_time_outs_with_blocks() {
    let setup = with_options(Duration::from_secs(1), 1 << 30).stored(0..2).await;
    setup.fault(1, Fault::Hang);
    for _ in 0..4 {
        assert_eq!(setup.read(0..2).await, 1);
    }
    let counts = setup.counts();
    assert_eq!((counts.timed_out_reads, counts.read_circuit_open), (4, false));
}

#[tokio::test]
async fn writes_rest_alone() {
    let setup = setup().stored(0..3).await;
    setup.all_writes(Some(Fault::Fail));
    for i in 10..13 {
        setup.write(i);
        setup.store.flush().await;
    }
    let counts = setup.counts();
    assert_eq!((counts.failed_writes, counts.dropped_blocks), (3, 0));
    assert_eq!((counts.read_circuit_open, counts.write_circuit_open), (false, true));
    setup.write(13);
    assert_eq!((setup.counts().dropped_blocks, setup.counts().queued_bytes), (1, 0));
    assert_eq!(setup.read(0..3).await, 3, "reads go on");

    setup.all_writes(None);
    pass(&setup.writes, 1);
    let setup = setup.stored([13]).await;
    assert!(!setup.counts().write_circuit_open);
    assert_eq!(setup.read([13]).await, 1);
}

/// What was queued before the circuit opened is dropped, so that `flush` need not wait for a trial.
#[tokio::test]
async fn queued_writes_are_dropped_when_the_circuit_opens() {
    let setup = setup();
    setup.all_writes(Some(Fault::Fail));
    let setup = setup.stored(0..100).await;
    let counts = setup.counts();
    assert_eq!(counts.failed_writes + counts.dropped_blocks, 100);
    assert!(counts.dropped_blocks >= 100 - 3 - crate::writer::WRITES as u64, "{counts:?}");
    assert_eq!(counts.queued_bytes, 0);
}

#[tokio::test]
async fn a_trial_whose_caller_goes_away_is_made_again() {
    let setup = setup().stored([0]).await;
    setup.all_reads(Some(Fault::Fail));
    for _ in 0..3 {
        assert_eq!(setup.read([0]).await, 0);
    }
    setup.all_reads(Some(Fault::Hang));
    pass(&setup.reads, 1);
    let trial = setup.store.read_prefix(wanted([0]), LEN, None);
    assert!(tokio::time::timeout(Duration::from_millis(50), trial).await.is_err());
    setup.all_reads(None);
    // The abandoned trial is ended by the store's thread.
    let next = async { while setup.read([0]).await == 0 {} };
    tokio::time::timeout(PATIENT, next).await.expect("the circuit stays open");
}
