//! Who may read the files of a store: blocks contain the tokens of prompts.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::folder_files::TEMPORARY;

/// The modes of files and subfolders. They follow the group's rights on the root folder, whatever the umask is, so that
/// a group can share a store; others have none.
pub(super) struct Access {
    #[cfg(unix)]
    file: u32,
    #[cfg(unix)]
    folder: u32,
    #[cfg(unix)]
    group: u32,
}

/// Creates a folder that only its owner can use, and those above it. A folder that exists keeps its mode.
pub(super) fn create_root(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
impl Access {
    /// As the mode of `root` says. Warns if others can use it.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(root)?;
        let mode = metadata.mode();
        if mode & 0o007 != 0 {
            let root = root.display();
            tracing::warn!(
                "the folder {root} of the KV store is open to all users. Its blocks contain the tokens of prompts; \
                 close it with: chmod o-rwx {root}"
            );
        }
        Ok(Self {
            file: 0o600 | mode & 0o060,
            // With the bit that gives new entries the folder's group.
            folder: 0o700 | mode & 0o2070,
            group: metadata.gid(),
        })
    }

    /// A new file in `folder`, deleted when it is dropped.
    pub(super) fn temporary_file(
        &self,
        folder: &Path,
    ) -> io::Result<tempfile::NamedTempFile<File>> {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::Builder::new()
            .prefix(TEMPORARY.0)
            .suffix(TEMPORARY.1)
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        self.share(file.as_file(), self.file)?;
        Ok(file)
    }

    /// Creates a subfolder of a root that exists.
    pub(super) fn create_subfolder(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.share(&File::open(path)?, self.folder),
            // By another process.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a file or folder, whose mode lets only its owner use it, its group and mode.
    fn share(&self, file: &File, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::{fchown, MetadataExt, PermissionsExt};
        let mut mode = mode;
        if mode & 0o070 != 0 && file.metadata()?.gid() != self.group {
            // Fails if this user is not in the root's group. Then the file must not be open to another one.
            if fchown(file, None, Some(self.group)).is_err() {
                mode &= 0o700;
            }
        }
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
}

#[cfg(not(unix))]
impl Access {
    pub(super) fn of(_: &Path) -> io::Result<Self> {
        Ok(Self {})
    }

    /// A new file in `folder`, deleted when it is dropped.
    pub(super) fn temporary_file(
        &self,
        folder: &Path,
    ) -> io::Result<tempfile::NamedTempFile<File>> {
        let mut builder = tempfile::Builder::new();
        let file =
            builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1).make_in(folder, File::create_new)?;
        Ok(file)
    }

    /// Creates a subfolder of a root that exists.
    pub(super) fn create_subfolder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}
