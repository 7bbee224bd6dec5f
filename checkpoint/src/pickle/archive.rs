//! The zip archive of a PyTorch file.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::error::PickleError;

/// The positions of the entries of a PyTorch file.
pub(crate) struct Archive {
    /// The bytes of `NAME/data.pkl`.
    pub pickle: Range<usize>,
    /// `NAME/`, the beginning of the name of every entry.
    prefix: String,
    entries: HashMap<String, Range<usize>>,
}

impl Archive {
    pub fn open(file: &[u8]) -> Result<Self, PickleError> {
        let mut zip = ZipArchive::new(Cursor::new(file)).map_err(PickleError::NotAnArchive)?;
        let mut entries = HashMap::new();
        for index in 0..zip.len() {
            let (name, range) = locate(&mut zip, index, file.len())?;
            entries.insert(name, range);
        }
        let mut pickles = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let prefix = match (pickles.next(), pickles.count()) {
            (Some(prefix), 0) => prefix.to_owned(),
            (first, further) => {
                return Err(PickleError::Pickles(usize::from(first.is_some()) + further))
            }
        };
        let pickle = entries[&format!("{prefix}data.pkl")].clone();
        let archive = Self { pickle, prefix, entries };
        archive.check_byte_order(file)?;
        Ok(archive)
    }

    /// The position of storage `key`.
    pub fn storage(&self, key: &str) -> Result<Range<usize>, PickleError> {
        let name = format!("{}data/{key}", self.prefix);
        self.entries.get(&name).cloned().ok_or(PickleError::NoEntry(name))
    }

    /// PyTorch before 2.1 does not write this entry. Its files are taken as little-endian.
    fn check_byte_order(&self, file: &[u8]) -> Result<(), PickleError> {
        let entry = self.entries.get(&format!("{}byteorder", self.prefix));
        match entry.map(|range| &file[range.clone()]) {
            None | Some(b"little") => Ok(()),
            Some(other) => {
                let start = &other[..other.len().min(16)];
                Err(PickleError::ByteOrder(String::from_utf8_lossy(start).into_owned()))
            }
        }
    }
}

/// The name of entry `index` and its position in the file of `length` bytes.
fn locate(
    zip: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    length: usize,
) -> Result<(String, Range<usize>), PickleError> {
    let entry = zip.by_index_raw(index).map_err(PickleError::NotAnArchive)?;
    let name = entry.name().to_owned();
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(PickleError::Compressed(name));
    }
    let begin = entry.data_start();
    let end = begin.and_then(|begin| begin.checked_add(entry.size()));
    match (begin, end) {
        (Some(begin), Some(end)) if end <= length as u64 => {
            Ok((name, begin as usize..end as usize))
        }
        _ => Err(PickleError::Outside(name)),
    }
}
