//! The names of folders while they are written or replaced: `DIR.partial-PID-N` and `DIR.replaced-PID-N`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Purpose {
    /// An incomplete folder, or the old folder after it was exchanged with the complete one.
    Partial,
    /// The old folder, moved away to make room for the complete one.
    Replaced,
}

/// A temporary name.
#[derive(Debug, PartialEq)]
pub(super) struct TemporaryName {
    pub purpose: Purpose,
    /// The id of the process that chose the name.
    pub process: u32,
    /// Distinguishes the names of one process.
    number: usize,
}

impl TemporaryName {
    pub fn of_this_process(purpose: Purpose, number: usize) -> Self {
        Self { purpose, process: std::process::id(), number }
    }

    /// The path with this name beside `dir`.
    pub fn beside(&self, dir: &Path) -> PathBuf {
        let Self { purpose, process, number } = self;
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!("{}{process}-{number}", purpose.infix()));
        dir.with_file_name(name)
    }

    /// Parses `name` as a temporary name for `dir`.
    pub fn parse(name: &OsStr, dir: &Path) -> Option<Self> {
        let of_dir = dir.file_name()?.as_encoded_bytes();
        let rest = name.as_encoded_bytes().strip_prefix(of_dir)?;
        let rest = std::str::from_utf8(rest).ok()?;
        [Purpose::Partial, Purpose::Replaced].into_iter().find_map(|purpose| {
            let rest = rest.strip_prefix(purpose.infix())?;
            // Earlier versions wrote no number.
            let (process, number) = rest.split_once('-').unwrap_or((rest, "0"));
            let (process, number) = (process.parse().ok()?, number.parse().ok()?);
            Some(Self { purpose, process, number })
        })
    }
}

impl Purpose {
    fn infix(self) -> &'static str {
        match self {
            Self::Partial => ".partial-",
            Self::Replaced => ".replaced-",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        let dir = Path::new("a/b");
        for purpose in [Purpose::Partial, Purpose::Replaced] {
            let temporary = TemporaryName { purpose, process: 12, number: 3 };
            let path = temporary.beside(dir);
            assert_eq!(path.parent(), dir.parent());
            assert_eq!(TemporaryName::parse(path.file_name().unwrap(), dir), Some(temporary));
            assert_eq!(TemporaryName::parse(path.file_name().unwrap(), Path::new("a/c")), None);
        }
        let older = TemporaryName { purpose: Purpose::Partial, process: 12, number: 0 };
        assert_eq!(TemporaryName::parse(OsStr::new("b.partial-12"), dir), Some(older));
        let others = ["b", "b.partial-", "b.partial-x-1", "b.partial-1-2-3", "bb.partial-1-2"];
        for name in others {
            assert_eq!(TemporaryName::parse(OsStr::new(name), dir), None, "{name}");
        }
    }
}
