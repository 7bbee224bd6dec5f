//! Symbolic links, followed one at a time.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The most links of one path that are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// An entry of folder `source`, at any depth, that leads through folder `dir`. Both paths are canonical, and neither
/// folder contains the other.
pub(super) fn entry_through(source: &Path, dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(source).into_iter().flatten().flatten();
    entries.into_iter().find_map(|entry| {
        let (path, kind) = (entry.path(), entry.file_type().ok()?);
        if kind.is_dir() {
            entry_through(&path, dir)
        } else {
            (kind.is_symlink() && leads_through(&path, dir)).then_some(path)
        }
    })
}

/// Whether the way to `path` leads through `dir`, even if it ends elsewhere: a link may lead to a link in `dir`.
pub(super) fn leads_through(path: &Path, dir: &Path) -> bool {
    let reversed = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|component| component.as_os_str().to_owned()).collect()
    };
    // `place` has no links; `rest` is still to be followed, its next component last.
    let (mut place, mut rest, mut links) = (PathBuf::new(), reversed(path), 0);
    while let Some(component) = rest.pop() {
        if Path::new(&component).components().eq([Component::ParentDir]) {
            place.pop();
        } else {
            // The root replaces all before it.
            place.push(component);
        }
        if place.starts_with(dir) {
            return true;
        }
        if let Ok(target) = fs::read_link(&place) {
            links += 1;
            if links > MAX_LINKS {
                return false;
            }
            place.pop();
            rest.extend(reversed(&target));
        }
    }
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["source/deep", "dir", "elsewhere"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["dir/file", "elsewhere/file"] {
            fs::write(root.join(name), "").unwrap();
        }
        symlink("../elsewhere/file", root.join("dir/link")).unwrap();
        symlink("../elsewhere", root.join("dir/folder")).unwrap();
        let (source, dir) = (root.join("source"), root.join("dir"));
        let found = |name: &str, target: &Path| {
            symlink(target, source.join(name)).unwrap();
            let found = entry_through(&source, &dir);
            fs::remove_file(source.join(name)).unwrap();
            found == Some(source.join(name))
        };
        assert_eq!(entry_through(&source, &dir), None);
        for target in ["../dir", "../dir/file", "../elsewhere/../dir/file", "../dir/missing"] {
            assert!(found("link", Path::new(target)), "{target}");
            assert!(found("link", &source.join(target)), "{target}");
        }
        // They end outside of the folder.
        assert!(found("link", Path::new("../dir/link")));
        assert!(found("link", Path::new("../dir/folder/file")));
        assert!(found("link", Path::new("../dir/../elsewhere/file")));
        assert!(found("deep/link", Path::new("../../dir/file")));
        for target in ["../elsewhere/file", "missing", "link", "../dir2"] {
            assert!(!found("link", Path::new(target)), "{target}");
        }
    }
}
