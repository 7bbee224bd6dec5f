//! JSON maps in which a name that comes twice is refused.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::shortened::shortened;

/// A map in which a name that comes twice is refused, where serde lets the last one win.
pub(crate) fn unique_names<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(Unique { texts: None, values: PhantomData })
}

/// The same, without the entry `texts`, whose value is a map of strings, or null.
pub(crate) fn unique_names_but<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
    texts: &'static str,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(Unique { texts: Some(texts), values: PhantomData })
}

struct Unique<V> {
    texts: Option<&'static str>,
    values: PhantomData<V>,
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let twice = |name: &str| M::Error::custom(format!("`{}` comes twice", shortened(name)));
        let (mut entries, mut has_texts) = (BTreeMap::new(), false);
        while let Some(name) = map.next_key::<String>()? {
            if Some(name.as_str()) == self.texts {
                map.next_value::<Option<HashMap<String, String>>>()?;
                if std::mem::replace(&mut has_texts, true) {
                    return Err(twice(&name));
                }
                continue;
            }
            let value = map.next_value()?;
            if entries.contains_key(&name) {
                return Err(twice(&name));
            }
            entries.insert(name, value);
        }
        Ok(entries)
    }
}
