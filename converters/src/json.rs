//! JSON files of a checkpoint folder, read without trust.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// The longest JSON file that is read, in bytes: several times the longest tokenizer.json.
const MAX_FILE: u64 = 100_000_000;

/// The text of the file at `path`.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        let message = format!("longer than the {MAX_FILE} bytes that are read of a JSON file");
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// A map in which a name that comes twice is refused, where serde lets the last one win. The name
/// `passed_over` stands for something else and is left out.
pub(crate) fn unique_names<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
    passed_over: Option<&'static str>,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(Unique { passed_over, values: PhantomData })
}

struct Unique<V> {
    passed_over: Option<&'static str>,
    values: PhantomData<V>,
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if Some(name.as_str()) == self.passed_over {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value()?;
            if entries.contains_key(&name) {
                return Err(M::Error::custom(format!("`{name}` comes twice")));
            }
            entries.insert(name, value);
        }
        Ok(entries)
    }
}
