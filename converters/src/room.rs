//! Room on the file system for what is to be written.

use std::path::Path;

use crate::new_folder::parent;

/// Bytes free for us on the file system where `dir` is or is to be. None if it is not known.
#[cfg(unix)]
pub(crate) fn free_bytes(dir: &Path) -> Option<u128> {
    let existing = std::iter::successors(Some(dir), |dir| Some(parent(dir)))
        .take(dir.components().count() + 1)
        .find(|ancestor| ancestor.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    // Some file systems do not count.
    (found.f_blocks > 0).then(|| u128::from(found.f_bavail) * u128::from(found.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &Path) -> Option<u128> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_room_of_a_folder_to_come_is_that_of_the_folder_it_comes_to() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).is_some());
        assert!(free_bytes(&dir.path().join("a/b/c")).is_some());
        assert!(free_bytes(Path::new("not/there")).is_some());
    }
}
