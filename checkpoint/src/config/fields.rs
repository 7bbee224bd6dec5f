//! The fields of config.json as JSON values.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::error::{invalid, ConfigError};
use crate::json::{unique_keys, UniqueValue};

/// The fields of a config.json. A field that occurs twice is an error, also within the value of another.
pub(crate) struct Fields(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = unique_keys::<D, UniqueValue>(deserializer)?;
        Ok(Self(fields.into_iter().map(|(field, UniqueValue(value))| (field, value)).collect()))
    }
}

impl Fields {
    /// Whether the field is present, even as null.
    pub fn contains(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// The names of all fields, sorted.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// The value of the field; None if it is absent or null.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub fn set(&mut self, field: &str, value: Value) {
        self.0.insert(field.into(), value);
    }

    /// Sets the field if it is absent or null.
    pub fn set_default(&mut self, field: &str, value: Value) {
        if self.get(field).is_none() {
            self.set(field, value);
        }
    }

    /// Removes the field and returns its value; None if it was absent or null.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    /// Renames `dtype`, which transformers 5 writes, to `torch_dtype`, which earlier versions write.
    pub fn rename_dtype(&mut self) -> Result<(), ConfigError> {
        let Some(dtype) = self.take("dtype") else { return Ok(()) };
        match self.get("torch_dtype") {
            Some(older) if *older != dtype => {
                let expected = format!("`torch_dtype` is {older}; expected the same");
                Err(invalid("dtype", &dtype, expected))
            }
            _ => {
                self.set("torch_dtype", dtype);
                Ok(())
            }
        }
    }

    pub fn into_map(self) -> Map<String, Value> {
        self.0.into_iter().collect()
    }
}

/// Whether two values are equal. 1 and 1.0 are.
pub(crate) fn same_value(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}
