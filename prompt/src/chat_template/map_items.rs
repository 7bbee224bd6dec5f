//! The items of maps.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::python::kind_name;
use super::tuple::tuple;
use super::views::MapView;

/// The entries of a map, as tuples.
pub fn pairs(map: &Value) -> Result<Vec<Value>, Error> {
    if map.kind() != ValueKind::Map {
        let message = format!("a value of type {} has no pairs of keys and values", kind_name(map));
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let pair = |key: Value| Ok(tuple(vec![key.clone(), map.get_item(&key)?]));
    map.try_iter()?.map(pair).collect()
}

/// The view of `map` for `method`: `keys`, `values` or `items`.
pub fn map_view(map: &Value, method: &str) -> Result<Value, Error> {
    let (method, items) = match method {
        "keys" => ("keys", map.try_iter()?.collect()),
        "values" => {
            let values = map.try_iter()?.map(|key| map.get_item(&key));
            ("values", values.collect::<Result<_, _>>()?)
        }
        _ => ("items", pairs(map)?),
    };
    Ok(Value::from_object(MapView { method, items }))
}
