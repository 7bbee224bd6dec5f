//! JSON maps in which a name that comes twice is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::shortened::shortened;

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
        f.write_str("a map")
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
                return Err(M::Error::custom(format!("`{}` comes twice", shortened(&name))));
            }
            entries.insert(name, value);
        }
        Ok(entries)
    }
}
