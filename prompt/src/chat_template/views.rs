//! Ranges and dict views. They are iterable, but not lists: they cannot be concatenated or written as JSON.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};

/// The numbers of `range(start, stop, step)`.
#[derive(Debug)]
pub struct Range {
    pub start: i64,
    pub stop: i64,
    pub step: i64,
    len: usize,
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, index: &Value) -> Option<Value> {
        let index = index.as_usize().filter(|index| *index < self.len)?;
        // The product may overflow, but the sum is in range.
        Some(Value::from(self.start.wrapping_add(self.step.wrapping_mul(index as i64))))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.len)
    }
}

/// The longest range, as in Jinja's sandbox.
const LONGEST_RANGE: i128 = 100_000;

/// `range(stop)`, `range(start, stop)` or `range(start, stop, step)`.
pub fn range(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = second.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    let invalid = |message: &str| Error::new(ErrorKind::InvalidOperation, message.to_string());
    if step == 0 {
        return Err(invalid("range: the step must not be 0"));
    }
    let way = (i128::from(stop) - i128::from(start)) * i128::from(step.signum());
    let len = (way.max(0) + i128::from(step.unsigned_abs()) - 1) / i128::from(step.unsigned_abs());
    if len > LONGEST_RANGE {
        return Err(invalid("range: expected at most 100000 numbers"));
    }
    Ok(Value::from_object(Range { start, stop, step, len: len as usize }))
}

/// The result of `keys`, `values` or `items`.
#[derive(Debug)]
pub struct MapView {
    pub method: &'static str,
    pub items: Vec<Value>,
}

impl Object for MapView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// Whether `value` is a range or a view.
pub fn is_view(value: &Value) -> bool {
    value.downcast_object_ref::<Range>().is_some()
        || value.downcast_object_ref::<MapView>().is_some()
}
