//! Stores in a folder.

mod access;
#[path = "../common/mod.rs"]
mod common;
mod entries;
#[path = "../common/log.rs"]
mod log;
mod size;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use colm_kv_store::{check, KvStore, OpenError, PrefixEnd, StoreOptions};
use common::{key, open, options, read, wanted, write, write_payload, LEN};
use tempfile::TempDir;

/// Bytes of the file of a block.
const FILE: u64 = 8 + 4 + 32 + 4 + 4 * 16 + 8 + LEN as u64 + 16;

fn in_folder(folder: &Path) -> StoreOptions {
    options(&format!("file://{}", folder.display()))
}

fn limited(folder: &Path, max_bytes: u64) -> StoreOptions {
    StoreOptions { max_bytes: Some(max_bytes), ..in_folder(folder) }
}

fn path(folder: &Path, i: usize) -> PathBuf {
    let name = key(i).to_string();
    folder.join(&name[..2]).join(format!("{name}.kv"))
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Pretends that a file was last used so long ago.
fn age(path: &Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn blocks_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(&folder.path().join("a b/kv")));
    assert_eq!(read(&store, 0..10).await, 0);
    write(&store, 0..10).await;
    drop(store);
    let store = open(in_folder(&folder.path().join("a b/kv")));
    assert!(!store.is_known(&key(0)));
    assert_eq!(read(&store, 0..12).await, 10);
    assert!(store.is_known(&key(0)));
}

#[tokio::test]
async fn a_block_is_one_file_under_its_key() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write(&store, [3]).await;
    assert_eq!(files(folder.path()), [path(folder.path(), 3)]);
    assert_eq!(fs::metadata(path(folder.path(), 3)).unwrap().len(), FILE);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_folder_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let new = folder.path().join("new");
    let _store = open(in_folder(&new));
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn two_stores_share_a_folder() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (open(in_folder(folder.path())), open(in_folder(folder.path())));
    write(&first, 0..10).await;
    assert_eq!(read(&second, 0..20).await, 10);
    write(&second, 0..20).await;
    assert_eq!(second.counts().written_blocks, 10, "those that it read are known");
    assert_eq!(read(&first, 0..20).await, 20);
    // Both write the same blocks at the same time, and one reads them meanwhile.
    for i in 0..20 {
        let blocks = 100 * i..100 * i + 20;
        let (.., found) = tokio::join!(
            write(&first, blocks.clone()),
            write(&second, blocks.clone()),
            read(&first, blocks.clone())
        );
        assert!(found <= 20);
        assert_eq!(read(&second, blocks).await, 20);
    }
    let counts = [first.counts(), second.counts()];
    assert!(
        counts.iter().all(|counts| counts.damaged_blocks + counts.failed_writes == 0),
        "{counts:?}"
    );
}

#[tokio::test]
async fn a_damaged_file_is_deleted_and_written_again() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write(&store, 0..10).await;
    let damaged = path(folder.path(), 6);
    for damage in ["cut", "flip", "append", "empty", "other"] {
        let mut bytes = fs::read(&damaged).unwrap();
        match damage {
            "cut" => bytes.truncate(bytes.len() - 1),
            "flip" => bytes[500] ^= 4,
            "append" => bytes.extend([0; 5000]),
            "empty" => bytes.clear(),
            _ => bytes = fs::read(path(folder.path(), 7)).unwrap(),
        }
        fs::write(&damaged, bytes).unwrap();
        assert_eq!(read(&store, 0..10).await, 6, "{damage}");
        assert!(!damaged.exists(), "{damage}");
        write(&store, 6..10).await;
        assert_eq!(read(&store, 0..10).await, 10, "{damage}");
    }
    assert_eq!(store.counts().damaged_blocks, 5);
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    // The folder of block 1 cannot be created, and the file of block 2 cannot be replaced.
    fs::write(path(folder.path(), 1).parent().unwrap(), "in the way").unwrap();
    fs::create_dir_all(path(folder.path(), 2).join("in the way")).unwrap();
    write(&store, 0..4).await;
    let counts = store.counts();
    assert_eq!((counts.failed_writes, counts.written_blocks), (2, 2));
    assert_eq!([0, 1, 2, 3].map(|i| store.is_known(&key(i))), [true, false, false, true]);
    assert_eq!(read(&store, [0, 3]).await, 2);
    let left = files(folder.path());
    assert!(!left.iter().any(|path| path.extension().is_some_and(|end| end == "tmp")), "{left:?}");
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let Err(error) = KvStore::open(in_folder(&path)) else {
            panic!("{} opened", path.display())
        };
        assert!(matches!(error, OpenError::Folder { .. }));
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

/// Stores behind opendal answer with an error if there is no block.
#[tokio::test]
async fn a_missing_block_is_no_failed_read() {
    let folder = TempDir::new().unwrap();
    for options in [in_folder(folder.path()), options("memory:")] {
        let store = open(options);
        write(&store, 0..3).await;
        assert_eq!(read(&store, 0..6).await, 3);
        let counts = store.counts();
        assert_eq!((counts.missing_blocks, counts.failed_reads), (3, 0));
    }
}

#[test]
fn a_time_out_of_zero_is_an_error() {
    let options = StoreOptions { timeout: Duration::ZERO, ..options("memory:") };
    let Err(error) = KvStore::open(options) else { panic!("it opened") };
    assert!(error.to_string().contains("expected a positive time"), "{error}");
}

#[test]
fn only_folders_have_a_size() {
    for url in ["memory:", "redis://localhost"] {
        let options = StoreOptions { max_bytes: Some(1 << 30), ..options(url) };
        let Err(error) = KvStore::open(options) else { panic!("{url} opened") };
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
}

#[test]
fn stale_temporary_files_are_removed_when_the_store_is_opened() {
    let folder = TempDir::new().unwrap();
    let shard = folder.path().join("ab");
    fs::create_dir(&shard).unwrap();
    let names = [".old.tmp", ".new.tmp", "foreign.tmp", "foreign.kv"];
    names.iter().for_each(|name| fs::write(shard.join(name), "x").unwrap());
    let left = || names.map(|name| shard.join(name).exists());
    for name in [".old.tmp", "foreign.tmp", "foreign.kv"] {
        age(&shard.join(name), HOUR / 5);
    }
    let _store = open(in_folder(folder.path()));
    assert_eq!(left(), [false, true, true, true]);
}

/// The process that `a_killed_process_leaves_a_good_store` kills.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("COLM_KV_STORE_KILL_TEST") else { return };
    let store = open(in_folder(Path::new(&folder)));
    for i in 0.. {
        write(&store, 100 * i..100 * i + 100).await;
    }
}

#[tokio::test]
async fn a_killed_process_leaves_a_good_store() {
    let folder = TempDir::new().unwrap();
    let url = format!("file://{}", folder.path().display()).parse().unwrap();
    for round in 1..=5 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed"])
            .env("COLM_KV_STORE_KILL_TEST", folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // At another moment in each round.
        let enough = 300 * round + 7;
        while blocks(folder.path()) < enough {
            assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let report = check(&url, false, |_| {}).await.unwrap();
        assert!(report.blocks >= enough as u64);
        assert_eq!(report.damaged, []);
        let store = open(in_folder(folder.path()));
        assert_eq!(read(&store, 0..100).await, 100);
        // The next process starts with an empty folder, or it would write nothing new.
        fs::remove_dir_all(folder.path()).unwrap();
    }
}

fn blocks(folder: &Path) -> usize {
    if !folder.exists() {
        return 0;
    }
    files(folder).iter().filter(|path| path.extension().is_some_and(|end| end == "kv")).count()
}

/// Files are written in aligned pieces, with a rest.
#[tokio::test]
async fn blocks_of_any_length_are_read_as_they_were_written() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    for (i, len) in [1, 3900, 4096, 8192, 10_000, 300_001].into_iter().enumerate() {
        let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        write_payload(&store, i, &payload);
        store.flush().await;
        let prefix = store.read_prefix(wanted([i]), len, None).await;
        assert!(prefix.payloads == [payload], "{len} bytes");
    }
    assert_eq!(store.counts().failed_writes, 0);
}

#[tokio::test]
async fn an_empty_payload_is_a_block() {
    let folder = TempDir::new().unwrap();
    let store = open(in_folder(folder.path()));
    write_payload(&store, 0, &[]);
    store.flush().await;
    let prefix = store.read_prefix(wanted([0]), 0, None).await;
    assert_eq!(prefix.payloads, [Vec::<u8>::new()]);
}
