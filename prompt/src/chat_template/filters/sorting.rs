//! Filters that compare items: `sort`, `dictsort`, `min` and `max`.

use std::cmp::Ordering;

use minijinja::value::Rest;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::super::budget::TextLimit;
use super::super::map_items::pairs;
use super::super::operators::{items, order};
use super::lists::{attributes, by_names};

pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    env.add_filter("sort", move |state: &State, items: Value, arguments: Rest<Value>| {
        sort(limit, state, items, &arguments)
    });
    env.add_filter("dictsort", move |state: &State, map: Value, arguments: Rest<Value>| {
        dictsort(limit, state, &map, &arguments)
    });
    for (name, wanted) in [("min", Ordering::Less), ("max", Ordering::Greater)] {
        env.add_filter(name, move |state: &State, items: Value, arguments: Rest<Value>| {
            extreme(limit, state, items, &arguments, wanted)
        });
    }
}

/// An item and its sort key.
type Keyed = (Value, Value);

/// Compares keys and checks the time limit.
struct Keys<'a, 'b, 'c> {
    limit: TextLimit,
    state: &'a State<'b, 'c>,
}

impl Keys<'_, '_, '_> {
    fn compare(&self, a: &Keyed, b: &Keyed) -> Result<Option<Ordering>, Error> {
        self.limit.check(0, self.state)?;
        order(&a.0, "<", &b.0)
    }

    /// Sorts the items, stably. Rust's own sort cannot stop at an error.
    fn sorted(&self, mut items: Vec<Keyed>, reverse: bool) -> Result<Vec<Keyed>, Error> {
        if items.len() < 2 {
            return Ok(items);
        }
        let second = items.split_off(items.len() / 2);
        let first = self.sorted(items, reverse)?.into_iter();
        let mut second = self.sorted(second, reverse)?.into_iter().peekable();
        let mut merged = Vec::with_capacity(first.len() + second.len());
        let before = if reverse { Ordering::Greater } else { Ordering::Less };
        for item in first {
            while let Some(other) = second.peek() {
                if self.compare(other, &item)? != Some(before) {
                    break;
                }
                merged.extend(second.next());
            }
            merged.push(item);
        }
        merged.extend(second);
        Ok(merged)
    }
}

/// A string in lower case, unless `case_sensitive`.
fn key(value: Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => value,
    }
}

/// The items with their keys. `attribute` may be several names, separated by commas.
fn keyed(
    state: &State,
    items: &Value,
    attribute: Option<Value>,
    case_sensitive: bool,
) -> Result<Vec<Keyed>, Error> {
    let names = match attribute.as_ref().and_then(|names| names.as_str()) {
        Some(names) if names.contains(',') => names.split(',').map(Value::from).collect(),
        _ => Vec::from_iter(attribute.clone()),
    };
    if names.len() < 2 {
        let keys = attributes(state, items.clone(), attribute)?;
        let keys = keys.try_iter()?.map(|value| key(value, case_sensitive));
        return Ok(keys.zip(items.try_iter()?).collect());
    }
    let mut keys = vec![Vec::new(); items.len().unwrap_or(0)];
    for name in names {
        let values = attributes(state, items.clone(), Some(name))?;
        for (key_of_item, value) in keys.iter_mut().zip(values.try_iter()?) {
            key_of_item.push(key(value, case_sensitive));
        }
    }
    Ok(keys.into_iter().map(Value::from).zip(items.try_iter()?).collect())
}

fn items_of(sorted: Vec<Keyed>) -> Value {
    sorted.into_iter().map(|(_, item)| item).collect()
}

fn is_true(value: Option<Value>) -> bool {
    value.is_some_and(|value| value.is_true())
}

fn sort(
    limit: TextLimit,
    state: &State,
    items: Value,
    arguments: &[Value],
) -> Result<Value, Error> {
    let options = by_names(arguments, &["reverse", "case_sensitive", "attribute"])?;
    let (reverse, case_sensitive) =
        (is_true(options.get("reverse")?), is_true(options.get("case_sensitive")?));
    let keyed = keyed(state, &list(&items)?, options.get("attribute")?, case_sensitive)?;
    options.assert_all_used()?;
    Ok(items_of(Keys { limit, state }.sorted(keyed, reverse)?))
}

/// The entries of a map, sorted by key or value.
fn dictsort(
    limit: TextLimit,
    state: &State,
    map: &Value,
    arguments: &[Value],
) -> Result<Value, Error> {
    let options = by_names(arguments, &["case_sensitive", "by", "reverse"])?;
    let case_sensitive = is_true(options.get("case_sensitive")?);
    let by: Option<Value> = options.get("by")?;
    let reverse = is_true(options.get("reverse")?);
    options.assert_all_used()?;
    let place = match by.as_ref().and_then(|by| by.as_str()) {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => {
            let message = "dictsort: expected key or value";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    let keyed = pairs(map)?
        .into_iter()
        .map(|pair| Ok((key(pair.get_item_by_index(place)?, case_sensitive), pair)));
    let keyed = keyed.collect::<Result<Vec<Keyed>, Error>>()?;
    Ok(items_of(Keys { limit, state }.sorted(keyed, reverse)?))
}

/// The first of the smallest or largest items.
fn extreme(
    limit: TextLimit,
    state: &State,
    items: Value,
    arguments: &[Value],
    wanted: Ordering,
) -> Result<Value, Error> {
    let options = by_names(arguments, &["case_sensitive", "attribute"])?;
    let case_sensitive = is_true(options.get("case_sensitive")?);
    let attribute = options.get("attribute")?;
    options.assert_all_used()?;
    let mut keyed = keyed(state, &list(&items)?, attribute, case_sensitive)?.into_iter();
    let Some(mut found) = keyed.next() else { return Ok(Value::UNDEFINED) };
    for item in keyed {
        if (Keys { limit, state }).compare(&item, &found)? == Some(wanted) {
            found = item;
        }
    }
    Ok(found.1)
}

/// The items as a list, whose length is known.
fn list(value: &Value) -> Result<Value, Error> {
    Ok(items(value.clone())?.try_iter()?.collect())
}
