//! What `colm kv-store stat`, `check` and `prune` do.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use colm_kv_store::{check, prune, stat, DamagedBlock, StoreUrl};
use common::{key, open, options, read, write};
use tempfile::TempDir;

fn url(folder: &Path) -> StoreUrl {
    format!("file://{}", folder.display()).parse().unwrap()
}

fn path(folder: &Path, i: usize) -> PathBuf {
    let name = key(i).to_string();
    folder.join(&name[..2]).join(format!("{name}.kv"))
}

/// A folder with ten blocks, of which block 0 was not used for ten hours, and block 9 for one hour.
async fn ten_blocks() -> (TempDir, u64) {
    let folder = TempDir::new().unwrap();
    write(&open(options(&url(folder.path()).to_string())), 0..10).await;
    for i in 0..10 {
        let used = SystemTime::now() - Duration::from_secs(3600 * (10 - i as u64));
        File::options()
            .write(true)
            .open(path(folder.path(), i))
            .unwrap()
            .set_modified(used)
            .unwrap();
    }
    let len = fs::metadata(path(folder.path(), 0)).unwrap().len();
    (folder, len)
}

#[tokio::test]
async fn stat_counts_blocks() {
    let (folder, len) = ten_blocks().await;
    fs::write(path(folder.path(), 3).with_file_name(".write.tmp"), "under way").unwrap();
    fs::write(path(folder.path(), 3).with_file_name("notes.txt"), "not ours").unwrap();
    let found = stat(&url(folder.path())).await.unwrap();
    assert_eq!((found.blocks, found.bytes, found.temporary_files), (10, 10 * len, 1));
    let used = |i| Some(fs::metadata(path(folder.path(), i)).unwrap().modified().unwrap());
    assert_eq!((found.least_recently_used, found.most_recently_used), (used(0), used(9)));
}

#[tokio::test]
async fn check_finds_damage_and_deletes_it_if_asked() {
    let (folder, len) = ten_blocks().await;
    fs::write(path(folder.path(), 2), "too short").unwrap();
    fs::copy(path(folder.path(), 3), path(folder.path(), 4)).unwrap();
    for delete in [false, true] {
        let mut steps = Vec::new();
        let report =
            check(&url(folder.path()), delete, |report| steps.push(report.checked)).await.unwrap();
        assert_eq!(steps, (1..=10).collect::<Vec<_>>());
        assert_eq!((report.blocks, report.checked, report.bytes), (10, 10, 9 * len + 9));
        let mut damaged = report.damaged;
        damaged.sort_by_key(|(found, _)| *found != key(2));
        let [(first, DamagedBlock::Truncated { found: 9, .. }), second] = &damaged[..] else {
            panic!("{damaged:?}")
        };
        assert_eq!(*first, key(2));
        assert_eq!(*second, (key(4), DamagedBlock::Key { found: key(3) }));
        assert_eq!(report.deleted, if delete { 2 } else { 0 });
        assert_eq!([2, 4].map(|i| path(folder.path(), i).exists()), [!delete; 2]);
    }
    let report = check(&url(folder.path()), true, |_| {}).await.unwrap();
    assert_eq!((report.blocks, report.damaged.len()), (8, 0));
}

#[tokio::test]
async fn prune_deletes_what_was_not_used_for_longest() {
    let (folder, len) = ten_blocks().await;
    let report = prune(&url(folder.path()), 10 * len).await.unwrap();
    assert_eq!((report.deleted_blocks, report.blocks_left), (0, 10));
    let report = prune(&url(folder.path()), 4 * len + 1).await.unwrap();
    assert_eq!((report.deleted_blocks, report.deleted_bytes), (6, 6 * len));
    assert_eq!((report.blocks_left, report.bytes_left), (4, 4 * len));
    let left: Vec<usize> = (0..10).filter(|i| path(folder.path(), *i).exists()).collect();
    assert_eq!(left, [6, 7, 8, 9]);
    let report = prune(&url(folder.path()), 0).await.unwrap();
    assert_eq!((report.deleted_blocks, report.bytes_left), (4, 0));
}

#[tokio::test]
async fn prune_deletes_what_dead_processes_left() {
    let (folder, len) = ten_blocks().await;
    let temporary =
        ["old", "new"].map(|name| path(folder.path(), 3).with_file_name(format!(".{name}.tmp")));
    temporary.iter().for_each(|path| fs::write(path, "half written").unwrap());
    let file = File::options().write(true).open(&temporary[0]).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(11 * 60)).unwrap();
    let report = prune(&url(folder.path()), 10 * len).await.unwrap();
    assert_eq!((report.deleted_blocks, report.skipped), (0, 0));
    assert_eq!(temporary.map(|path| path.exists()), [false, true]);
}

/// A file of a terabyte that takes no room on the disk.
#[tokio::test]
async fn check_does_not_read_sparse_files() {
    let (folder, len) = ten_blocks().await;
    for i in 0..5 {
        let file = File::options().write(true).open(path(folder.path(), i)).unwrap();
        file.set_len(if i == 0 { 1 << 40 } else { 1 << 30 }).unwrap();
    }
    let begin = std::time::Instant::now();
    let report = check(&url(folder.path()), true, |_| {}).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!((report.damaged.len(), report.deleted), (5, 5));
    assert_eq!(report.bytes, 5 * len + (1 << 40) + 4 * (1 << 30));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_created() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let errors = [
        stat(&url(&missing)).await.unwrap_err(),
        check(&url(&missing), true, |_| {}).await.unwrap_err(),
        prune(&url(&missing), 0).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("no such folder"), "{error}");
    }
    assert!(!missing.exists());
}

#[tokio::test]
async fn stores_behind_opendal_are_listed_and_checked() {
    let url: StoreUrl = "memory:stores_behind_opendal".parse().unwrap();
    let store = open(options(&url.to_string()));
    write(&store, 0..10).await;
    let found = stat(&url).await.unwrap();
    assert_eq!((found.blocks, found.least_recently_used), (10, None));
    let report = check(&url, true, |_| {}).await.unwrap();
    assert_eq!((report.blocks, report.checked, report.bytes), (10, 10, found.bytes));
    assert_eq!(report.damaged, []);
    // Another handle has the same blocks.
    assert_eq!(read(&open(options(&url.to_string())), 0..20).await, 10);
    let error = prune(&url, 0).await.unwrap_err();
    assert!(error.to_string().contains("only file stores"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_listed_is_refused() {
    // Nothing listens on port 1.
    for (url, problem) in [("redis://127.0.0.1:1", "Redis: "), ("memory:", "memory:name")] {
        let url: StoreUrl = url.parse().unwrap();
        let errors = [stat(&url).await.unwrap_err(), check(&url, true, |_| {}).await.unwrap_err()];
        for error in errors {
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
