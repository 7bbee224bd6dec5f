//! The size of a folder, and what is deleted to keep it.

use super::*;
use crate::common::PROMPT;

#[tokio::test]
async fn the_least_recently_used_blocks_are_deleted() {
    let folder = TempDir::new().unwrap();
    let store = open(limited(folder.path(), 20 * FILE));
    write(&store, 0..20).await;
    assert_eq!(store.counts().evicted_blocks, 0);
    // Block 0 was written first, and 19 last.
    (0..20).for_each(|i| age(&path(folder.path(), i), HOUR * (20 - i as u32)));
    assert_eq!(read(&store, 0..1).await, 1, "now it was used last");
    write(&store, 20..21).await;
    // 21 files are too many, and 18 are nine tenths of 20.
    let left: Vec<usize> = (0..21).filter(|i| path(folder.path(), *i).exists()).collect();
    let expected: Vec<usize> = [0].into_iter().chain(4..21).collect();
    assert_eq!(left, expected);
    assert_eq!(store.counts().evicted_blocks, 3);
    assert_eq!([1, 3, 4].map(|i| store.is_known(&key(i))), [false, false, true]);
    write(&store, [1]).await;
    assert_eq!(read(&store, [1]).await, 1);
}

#[tokio::test]
async fn what_other_processes_write_counts() {
    let folder = TempDir::new().unwrap();
    let first = open(limited(folder.path(), 20 * FILE));
    let second = open(limited(folder.path(), 20 * FILE));
    for i in 0..10 {
        write(&first, 10 * i..10 * i + 5).await;
        write(&second, 10 * i + 5..10 * i + 10).await;
    }
    // Each of them has written 50 and lists the folder after four at the latest.
    let bytes: u64 =
        files(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= 30 * FILE, "{} files", bytes / FILE);
    let evicted = first.counts().evicted_blocks + second.counts().evicted_blocks;
    assert_eq!(evicted, 100 - bytes / FILE);
}

/// Each process alone stays below the limit with what it knows of.
#[tokio::test]
async fn many_processes_exceed_the_size_by_a_twentieth_each() {
    let folder = TempDir::new().unwrap();
    let stores: Vec<_> = (0..4).map(|_| open(limited(folder.path(), 200 * FILE))).collect();
    for round in 0..20 {
        for (i, store) in stores.iter().enumerate() {
            let first = PROMPT * (i + 4 * round);
            write(store, first..first + 7).await;
        }
        let files = files(folder.path()).len();
        assert!(files <= 200 + 4 * (10 + 7), "{files} files");
    }
}

/// Without its first block, a prompt is of no use.
#[tokio::test]
async fn the_beginning_of_a_prompt_is_deleted_last() {
    let folder = TempDir::new().unwrap();
    let left = |prompt: usize| -> Vec<usize> {
        (0..24).filter(|i| path(folder.path(), prompt + i).exists()).collect()
    };
    // Those that were written after the last eviction may be left as well, in the tenth that it leaves free.
    let assert_beginning_of = |prompt, len: usize| {
        let left = left(prompt);
        assert!(left.len() >= len && left.len() <= len + 2, "{left:?}");
        assert_eq!(left[..len], (0..len).collect::<Vec<_>>());
    };
    // One after the other: several at once can leave a gap where the deleted ones begin.
    let write_each = async |store: &KvStore, blocks: std::ops::Range<usize>| {
        for i in blocks {
            write(store, [i]).await;
        }
    };
    let store = open(limited(folder.path(), 12 * FILE));
    write_each(&store, 0..24).await;
    assert_beginning_of(0, 10);
    assert!(read(&store, 0..24).await >= 10);
    // Another prompt takes the place of the end of the first one.
    write_each(&store, PROMPT..PROMPT + 4).await;
    assert_eq!(left(PROMPT), [0, 1, 2, 3]);
    assert_beginning_of(0, 6);
    drop(store);
    let store = open(limited(folder.path(), 6 * FILE));
    assert_eq!((left(0), left(PROMPT)), (vec![0, 1], vec![0, 1, 2]));
    assert_eq!(read(&store, 0..24).await, 2);
    // It is written again, and is longer than the whole store.
    write_each(&store, 0..24).await;
    assert!(read(&store, 0..24).await >= 2);
    drop(store);
    let store = open(limited(folder.path(), 4 * FILE));
    assert_eq!(left(0), (0..left(0).len()).collect::<Vec<_>>());
    assert_eq!(read(&store, 0..24).await, left(0).len());
}

/// Those who write while one lists do not list.
#[tokio::test]
async fn a_prompt_that_is_written_at_once_does_not_exceed_the_size() {
    let folder = TempDir::new().unwrap();
    let store = open(limited(folder.path(), 12 * FILE));
    for _ in 0..5 {
        write(&store, 0..100).await;
        assert!(files(folder.path()).len() <= 12, "{}", files(folder.path()).len());
        assert!(read(&store, 0..100).await > 0);
    }
}

/// Reading puts the blocks in the same order as writing.
#[tokio::test]
async fn a_read_marks_the_beginning_as_used_last() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write(&store, 0..10).await;
    (0..10).for_each(|i| age(&path(folder.path(), i), HOUR * (10 - i as u32)));
    assert_eq!(read(&store, 0..10).await, 10);
    let used = |i| fs::metadata(path(folder.path(), i)).unwrap().modified().unwrap();
    for i in 1..10 {
        assert!(used(i) < used(i - 1), "block {i}");
    }
    assert!(SystemTime::now().duration_since(used(9)).unwrap() < HOUR / 10);
}

#[tokio::test]
async fn a_folder_that_is_too_large_shrinks_when_it_is_opened() {
    let folder = TempDir::new().unwrap();
    write(&open(in_folder(folder.path())), 0..20).await;
    let store = open(limited(folder.path(), 10 * FILE));
    assert_eq!(files(folder.path()).len(), 9);
    assert_eq!(store.counts().evicted_blocks, 11);
}

/// It would be deleted at once, and all others before it.
#[tokio::test]
async fn a_block_larger_than_the_store_is_dropped() {
    let folder = TempDir::new().unwrap();
    let store = open(limited(folder.path(), 10 * FILE));
    write(&store, 0..5).await;
    write_payload(&store, 9, &vec![0; 9 * FILE as usize]);
    store.flush().await;
    assert_eq!((store.counts().dropped_blocks, store.counts().evicted_blocks), (1, 0));
    assert_eq!(read(&store, 0..5).await, 5);
}
