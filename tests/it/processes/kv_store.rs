//! `--kv-store`, `--role` and `colm kv-store`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{colm, Ended, MODEL, PLAIN};

fn store(task: &[&str], url: &str) -> Ended {
    colm(PLAIN, &[&["kv-store", task[0], url], &task[1..]].concat())
}

fn a_block(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inner = files.find(|path| path.is_dir()).unwrap();
    fs::read_dir(inner).unwrap().next().unwrap().unwrap().path()
}

/// `colm run` with a store, by a shell script.
pub(super) fn run_with_store(script: &str, url: &str) -> Ended {
    let prompt = "What is 27 + 58? ".repeat(16);
    let store = ["--kv-store", url, "--kv-store-always-read", "-i", &prompt];
    let ended = colm(script, &[&["run", "-m", MODEL], &store[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn the_blocks_of_a_run_are_found_counted_checked_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let (first, second) = (run_with_store(PLAIN, &url), run_with_store(PLAIN, &url));
    assert_eq!(first.stdout, second.stdout);
    assert!(first.stderr.contains("(0 reused"), "{first:?}");
    assert!(!second.stderr.contains("(0 reused"), "{second:?}");

    let blocks = |found: &Ended| -> usize {
        let line = found.stdout.lines().find_map(|line| line.strip_prefix("blocks: "));
        line.unwrap_or_else(|| panic!("{found:?}")).parse().unwrap()
    };
    let all = blocks(&store(&["stat"], &url));
    assert!(all > 1, "{all}");
    let whole = store(&["check"], &url);
    assert_eq!((whole.code, whole.stdout.contains(" 0 damaged")), (Some(0), true), "{whole:?}");

    let file = a_block(folder.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    store(&["check"], &url).refused_with("1 of");
    assert_eq!(store(&["check", "--delete"], &url).code, Some(0));
    assert_eq!(blocks(&store(&["stat"], &url)), all - 1);

    let pruned = store(&["prune", "--gb", "0.000001"], &url);
    assert_eq!(pruned.code, Some(0), "{pruned:?}");
    assert_eq!(blocks(&store(&["stat"], &url)), 0);
}

#[test]
fn stores_that_cannot_be_looked_after_are_refused() {
    store(&["stat"], "file:///no/such/folder").refused_with("no such folder");
    store(&["stat"], "redis://127.0.0.1:1").refused_with("redis://127.0.0.1:1");
}

#[test]
fn roles_without_what_they_need_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let cases: [(&[&str], &str); 5] = [
        (&["--role", "prefill"], "expected --kv-store"),
        (&["--role", "decode", "--prefill", "http://localhost:1"], "expected --kv-store"),
        (&["--role", "decode", "--kv-store", &url], "expected --prefill"),
        (&["--prefill", "http://localhost:1", "--kv-store", &url], "--role decode"),
        (&["--kv-store", "ftp://user:secret@host"], "--kv-store"),
    ];
    for (arguments, reason) in cases {
        let refused = colm(PLAIN, &[&["serve", "-m", MODEL, "-p", "0"], arguments].concat());
        refused.refused_with(reason);
        assert!(!refused.stderr.contains("secret"), "{refused:?}");
    }
}
