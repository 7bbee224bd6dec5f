//! The names that folders have while they are written or replaced: `DIR.partial-PID-N`, `DIR.replaced-PID-N`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    /// Not complete, or the old folder that the complete one has been exchanged with.
    Partial,
    /// The old folder, for whose name the complete new one waits.
    Replaced,
}

/// A temporary name.
#[derive(Debug, PartialEq)]
pub(crate) struct Temporary {
    pub what: What,
    /// The process that gave it.
    pub process: u32,
    /// Tells the names of one process apart.
    number: usize,
}

impl Temporary {
    pub fn of_this_process(what: What, number: usize) -> Self {
        Self { what, process: std::process::id(), number }
    }

    /// The path of this name beside `dir`.
    pub fn beside(&self, dir: &Path) -> PathBuf {
        let Self { what, process, number } = self;
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!("{}{process}-{number}", what.infix()));
        dir.with_file_name(name)
    }

    /// What `name` is if it is a temporary name of `dir`.
    pub fn of_name(name: &OsStr, dir: &Path) -> Option<Self> {
        let of_dir = dir.file_name()?.as_encoded_bytes();
        let rest = name.as_encoded_bytes().strip_prefix(of_dir)?;
        let rest = std::str::from_utf8(rest).ok()?;
        [What::Partial, What::Replaced].into_iter().find_map(|what| {
            let rest = rest.strip_prefix(what.infix())?;
            // Earlier versions gave no number.
            let (process, number) = rest.split_once('-').unwrap_or((rest, "0"));
            let (process, number) = (process.parse().ok()?, number.parse().ok()?);
            Some(Self { what, process, number })
        })
    }
}

impl What {
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
    fn a_name_is_known_for_what_it_is() {
        let dir = Path::new("a/b");
        for what in [What::Partial, What::Replaced] {
            let temporary = Temporary { what, process: 12, number: 3 };
            let path = temporary.beside(dir);
            assert_eq!(path.parent(), dir.parent());
            assert_eq!(Temporary::of_name(path.file_name().unwrap(), dir), Some(temporary));
            assert_eq!(Temporary::of_name(path.file_name().unwrap(), Path::new("a/c")), None);
        }
        let older = Temporary { what: What::Partial, process: 12, number: 0 };
        assert_eq!(Temporary::of_name(OsStr::new("b.partial-12"), dir), Some(older));
        let others = ["b", "b.partial-", "b.partial-x-1", "b.partial-1-2-3", "bb.partial-1-2"];
        for name in others {
            assert_eq!(Temporary::of_name(OsStr::new(name), dir), None, "{name}");
        }
    }
}
