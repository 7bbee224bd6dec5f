use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn key(i: u8) -> BlockKey {
    BlockKey([i; 32])
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

/// A folder with blocks 0 to 9, of a thousand bytes each. Block 0 was used last.
fn ten_blocks(max_bytes: Option<u64>) -> (tempfile::TempDir, Folder) {
    let root = tempfile::TempDir::new().unwrap();
    let (folder, _) = Folder::open(root.path().into(), max_bytes).unwrap();
    (0..10).for_each(|i| {
        folder.write(key(i), i as usize, &[7; 1000]).unwrap();
    });
    (root, folder)
}

/// Writes block 10, and finds the disk full so often. Also returns how often it was tried.
fn write_to_full_disk(folder: &Folder, times: usize) -> (Result<Evicted, FileError>, usize) {
    let tries = Cell::new(0);
    let written = folder.write_with(key(10), 0, 1000, &|file| {
        tries.set(tries.get() + 1);
        if tries.get() <= times {
            return Err(no_space());
        }
        file.write_all(&[7; 1000])
    });
    (written, tries.get())
}

#[test]
fn a_full_disk_makes_room_once() {
    let (_root, folder) = ten_blocks(Some(1 << 30));
    let (written, tries) = write_to_full_disk(&folder, 1);
    assert_eq!((written.unwrap().keys, tries), (vec![key(9)], 2));
    assert!(folder.exists(key(10)).unwrap() && folder.exists(key(8)).unwrap());
    let (written, tries) = write_to_full_disk(&folder, usize::MAX);
    assert!(written.is_err_and(|error| error.is_full()));
    assert_eq!(tries, 2);
}

#[test]
fn a_full_disk_without_a_limit_is_an_error() {
    let (_root, folder) = ten_blocks(None);
    let (written, tries) = write_to_full_disk(&folder, 1);
    assert!(written.is_err_and(|error| error.is_full()));
    assert_eq!(tries, 1);
    assert!((0..10).all(|i| folder.exists(key(i)).unwrap()));
}

/// Several writes find the disk full at the same time.
#[test]
fn what_others_have_freed_is_enough() {
    let (_root, folder) = ten_blocks(Some(1 << 30));
    let limit = folder.limit.as_ref().unwrap();
    let before = limit.times_full();
    assert_eq!(limit.disk_is_full(&folder.root, before, 1000).keys, [key(9)]);
    assert_eq!(limit.disk_is_full(&folder.root, before, 1000).keys, []);
    let now = limit.times_full();
    assert_eq!(limit.disk_is_full(&folder.root, now, 1000).keys, [key(8)]);
}

/// Another process opens the store again and again.
#[test]
fn a_block_far_into_a_prompt_is_not_taken_for_a_file_left_behind() {
    let root = tempfile::TempDir::new().unwrap();
    let (folder, _) = Folder::open(root.path().into(), None).unwrap();
    // As if it were last used hours ago.
    let write = || folder.write_with(key(0), 10_000, 100, &|file| file.write_all(&[7; 100]));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                delete_stale_files(root.path(), &mut Skipped::default());
            }
        });
        let written = (0..5_000).try_for_each(|_| write().map(|_| ()));
        done.store(true, Ordering::Relaxed);
        written.unwrap();
    });
}
