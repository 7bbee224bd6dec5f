//! Free space on the file system.

use std::path::Path;

#[cfg(unix)]
use super::destination::parent;

/// The bytes free for this user on the file system of `dir`, which need not exist yet. None if the
/// file system does not say.
#[cfg(unix)]
pub(super) fn free_bytes(dir: &Path) -> Option<u128> {
    let existing = std::iter::successors(Some(dir), |dir| Some(parent(dir)))
        .take(dir.components().count() + 1)
        .find(|ancestor| ancestor.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    // Some file systems report 0 blocks.
    (found.f_blocks > 0).then(|| u128::from(found.f_bavail) * u128::from(found.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u128> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_new_folder_has_the_space_of_its_nearest_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).is_some_and(|bytes| bytes > 0));
        assert!(free_bytes(&dir.path().join("a/b/c")).is_some_and(|bytes| bytes > 0));
        assert!(free_bytes(Path::new("not/there")).is_some_and(|bytes| bytes > 0));
    }
}
