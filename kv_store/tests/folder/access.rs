//! Who may use the files of a store.
#![cfg(unix)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::common::read_prefix;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// With the umask that most systems have, 022, files would be open to all and subfolders closed to the group.
#[tokio::test]
async fn files_have_the_groups_rights_on_the_folder() {
    for (root, subfolder, file) in [
        (0o700, 0o700, 0o600),
        (0o750, 0o750, 0o640),
        (0o2770, 0o2770, 0o660),
        (0o770, 0o770, 0o660),
        (0o777, 0o770, 0o660),
    ] {
        let folder = TempDir::new().unwrap();
        set_mode(folder.path(), root);
        let store = open(in_folder(folder.path()));
        write(&store, [0]).await;
        let path = path(folder.path(), 0);
        let modes = [folder.path(), path.parent().unwrap(), &path].map(mode);
        assert_eq!(modes, [root, subfolder, file], "{root:o}");
        assert_eq!(read(&store, [0]).await, 1);
    }
}

#[test]
fn a_folder_that_is_open_to_all_is_warned_of() {
    log::record();
    for (mode, warnings) in [(0o700, 0), (0o770, 0), (0o755, 1)] {
        let folder = TempDir::new().unwrap();
        set_mode(folder.path(), mode);
        let _store = open(in_folder(folder.path()));
        let command = format!("chmod o-rwx {}", folder.path().display());
        assert_eq!(log::lines_with(&command).len(), warnings, "{mode:o}");
    }
}

/// What `other_users_files_are_used` runs as another user.
#[tokio::test]
async fn reads_as_another_user() {
    let Some(folder) = std::env::var_os("COLM_KV_STORE_USER_TEST") else { return };
    let folder = Path::new(&folder);
    let store = open(in_folder(folder));
    for _ in 0..5 {
        let prefix = read_prefix(&store, 0..4).await;
        assert_eq!((prefix.payloads.len(), prefix.end), (2, PrefixEnd::Damaged));
    }
    let counts = store.counts();
    assert_eq!((counts.failed_reads, counts.damaged_blocks), (0, 5));
    assert!(!counts.read_circuit_open);
    assert!(path(folder, 2).exists(), "it cannot be deleted");
}

/// A user who may write a file of another one, but does not own it, can set its time to now only. And a file that may
/// not be read or deleted is no failure.
#[tokio::test]
async fn other_users_files_are_used() {
    use std::os::unix::process::CommandExt;
    let folder = TempDir::new().unwrap();
    if fs::metadata(folder.path()).unwrap().uid() != 0 {
        eprintln!("only root can become another user");
        return;
    }
    write(&open(in_folder(folder.path())), 0..4).await;
    set_mode(folder.path(), 0o777);
    for i in 0..4 {
        let path = path(folder.path(), i);
        set_mode(path.parent().unwrap(), 0o755);
        set_mode(&path, if i == 2 { 0o600 } else { 0o666 });
        age(&path, HOUR);
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "access::reads_as_another_user"])
        .env("COLM_KV_STORE_USER_TEST", folder.path())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .status()
        .unwrap();
    assert!(status.success());
    let age = |i| {
        let used = fs::metadata(path(folder.path(), i)).unwrap().modified().unwrap();
        SystemTime::now().duration_since(used).unwrap_or_default()
    };
    assert!(age(0) < HOUR / 2 && age(1) < HOUR / 2);
    assert!(age(2) > HOUR / 2);
}
