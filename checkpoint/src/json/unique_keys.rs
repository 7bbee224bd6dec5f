//! JSON objects in which a repeated key is an error.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::text::abbreviate;

/// A map in which a repeated key is an error. serde would keep the last value.
pub(crate) fn unique_keys<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(UniqueKeys { metadata: None, values: PhantomData })
}

/// As [`unique_keys`], without the entry `metadata`, which must be a map of strings or null.
pub(crate) fn unique_keys_except<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
    metadata: &'static str,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(UniqueKeys { metadata: Some(metadata), values: PhantomData })
}

struct UniqueKeys<V> {
    metadata: Option<&'static str>,
    values: PhantomData<V>,
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueKeys<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut entries, mut has_metadata) = (BTreeMap::new(), false);
        while let Some(key) = map.next_key::<String>()? {
            if Some(key.as_str()) == self.metadata {
                map.next_value::<Option<HashMap<String, String>>>()?;
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(repeated(&key));
                }
                continue;
            }
            let value = map.next_value()?;
            if entries.contains_key(&key) {
                return Err(repeated(&key));
            }
            entries.insert(key, value);
        }
        Ok(entries)
    }
}

/// The error for a repeated key.
pub(super) fn repeated<E: Error>(key: &str) -> E {
    E::custom(format!("`{}` occurs twice", abbreviate(key)))
}
