//! Things in a folder that are not what a store puts there.
#![cfg(unix)]

use std::os::unix::fs::symlink;

use colm_kv_store::{prune, stat, DamagedBlock, StoreUrl, FORMAT_VERSION};

use super::*;
use crate::common::read_prefix;

fn url(folder: &Path) -> StoreUrl {
    format!("file://{}", folder.display()).parse().unwrap()
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Puts something else in the place of a block. Returns whether a store can remove it.
fn replace(kind: &str, path: &Path, elsewhere: &Path) -> bool {
    fs::rename(path, elsewhere).unwrap();
    match kind {
        "pipe" => make_pipe(path),
        "link" => symlink(elsewhere, path).unwrap(),
        "loop" => symlink(path, path).unwrap(),
        "link to nothing" => symlink("nowhere", path).unwrap(),
        _ => {
            fs::create_dir_all(path.join("not empty")).unwrap();
            return false;
        }
    }
    true
}

#[tokio::test]
async fn what_is_no_file_is_a_damaged_block_and_no_failure() {
    for kind in ["pipe", "link", "loop", "link to nothing", "folder"] {
        log::record();
        let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let elsewhere = elsewhere.path().join("block");
        let store = open(in_folder(folder.path()));
        write(&store, 0..6).await;
        let path = path(folder.path(), 3);
        let removable = replace(kind, &path, &elsewhere);
        age(&elsewhere, HOUR);
        let prefix = read_prefix(&store, 0..6).await;
        assert_eq!((prefix.payloads.len(), prefix.end), (3, PrefixEnd::Damaged), "{kind}");
        assert_eq!(fs::symlink_metadata(&path).is_err(), removable, "{kind}");
        assert!(!store.is_known(&key(3)));
        let counts = store.counts();
        assert_eq!((counts.damaged_blocks, counts.failed_reads), (1, 0), "{kind}");
        assert!(!log::lines_with(path.to_str().unwrap()).is_empty(), "{kind}");
        // What a link leads to is neither used nor deleted.
        let used = fs::metadata(&elsewhere).unwrap().modified().unwrap();
        assert!(SystemTime::now().duration_since(used).unwrap() > HOUR / 2, "{kind}");
        // A folder cannot be replaced, which is no reason to write nothing else.
        (0..5).for_each(|i| write_payload(&store, 3 + 100 * i * usize::from(removable), &[]));
        for _ in 0..5 {
            write(&store, 3..6).await;
        }
        assert!(!store.counts().write_circuit_open, "{kind}");
        assert_eq!(store.counts().failed_writes > 0, !removable, "{kind}");
        assert_eq!(store.refresh_known(&[0, 1, 2, 3].map(key)).await, 3 + usize::from(removable));
    }
}

#[tokio::test]
async fn everything_goes_on_past_what_cannot_be_read() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write(&store, 0..10).await;
    let path = |i| path(folder.path(), i);
    // A file in the place of a subfolder, and a folder and a pipe in the place of blocks.
    fs::remove_dir_all(path(1).parent().unwrap()).unwrap();
    fs::write(path(1).parent().unwrap(), "in the way").unwrap();
    fs::remove_file(path(2)).unwrap();
    fs::create_dir_all(path(2).join("not empty")).unwrap();
    fs::remove_file(path(3)).unwrap();
    make_pipe(&path(3));

    let found = stat(&url(folder.path())).await.unwrap();
    assert_eq!((found.blocks, found.bytes, found.unreadable), (7, 7 * FILE, 1));
    for delete in [false, true] {
        let report = check(&url(folder.path()), delete, |_| {}).await.unwrap();
        assert_eq!((report.blocks, report.checked, report.unreadable), (9, 9, 1));
        let mut damaged = report.damaged;
        damaged.sort_by_key(|(found, _)| *found != key(2));
        assert_eq!(
            damaged,
            [2, 3].map(|i| (key(i), DamagedBlock::NotAFile { path: path(i) })),
            "{delete}"
        );
        assert_eq!(report.deleted, u64::from(delete), "the folder stays");
    }
    let prefix = read_prefix(&store, 0..10).await;
    assert_eq!((prefix.payloads.len(), prefix.end), (1, PrefixEnd::Damaged));
    let pruned = prune(&url(folder.path()), 5 * FILE).await.unwrap();
    assert_eq!((pruned.deleted_blocks, pruned.blocks_left, pruned.skipped), (2, 5, 1));
    let store = open(limited(folder.path(), 4 * FILE));
    assert_eq!(store.counts().evicted_blocks, 2);
    write(&store, 20..30).await;
    assert_eq!((store.counts().written_blocks, store.counts().failed_writes), (10, 0));
}

#[tokio::test]
async fn a_block_in_another_subfolder_is_deleted_there() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write(&store, 0..4).await;
    let path = |i| path(folder.path(), i);
    let misplace = || {
        let misplaced = path(1).with_file_name(path(2).file_name().unwrap());
        fs::copy(path(2), &misplaced).unwrap();
        misplaced
    };
    let misplaced = misplace();
    assert_eq!(stat(&url(folder.path())).await.unwrap().blocks, 5);
    let report = check(&url(folder.path()), true, |_| {}).await.unwrap();
    let damage = DamagedBlock::Misplaced { path: misplaced.clone() };
    assert_eq!((report.damaged, report.deleted), (vec![(key(2), damage)], 1));
    assert!(!misplaced.exists() && path(2).exists());

    // It goes first when there is no room, and the other one is still known.
    let store = open(limited(folder.path(), 5 * FILE));
    assert_eq!(read(&store, 0..4).await, 4);
    misplace();
    write(&store, 4..6).await;
    assert!(!misplaced.exists() && path(2).exists());
    assert!(store.is_known(&key(2)));
}

/// In a rolling upgrade, old and new servers share a folder.
#[tokio::test]
async fn blocks_of_other_versions_are_absent_and_stay() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write(&store, 0..3).await;
    let other = path(folder.path(), 1);
    for (length, version) in [(FILE, 1), (FILE + 5, FORMAT_VERSION + 1), (30, 1)] {
        let mut block = fs::read(path(folder.path(), 0)).unwrap();
        block.resize(length as usize, 7);
        block[8..12].copy_from_slice(&version.to_le_bytes());
        fs::write(&other, &block).unwrap();
        let prefix = read_prefix(&store, 0..3).await;
        assert_eq!((prefix.payloads.len(), prefix.end), (1, PrefixEnd::Missing), "{length}");
        let report = check(&url(folder.path()), true, |_| {}).await.unwrap();
        assert_eq!((report.other_versions, report.damaged), (1, vec![]), "{length}");
        assert!(fs::read(&other).unwrap() == block, "{length}");
    }
    assert_eq!(store.counts().damaged_blocks, 0);
}

/// For example one that is not mounted.
#[tokio::test]
async fn a_folder_that_is_gone_is_a_failure_until_it_is_written() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("store");
    let store = open(in_folder(&folder));
    write(&store, 0..3).await;
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(store.refresh_known(&[key(0)]).await, 1, "what is remembered");
    assert_eq!(read_prefix(&store, 0..3).await.end, PrefixEnd::Failed);
    assert!(!store.is_known(&key(0)));
    write(&store, 0..3).await;
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(read(&store, 0..3).await, 3);
}
