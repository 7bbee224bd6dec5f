//! Slices.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::super::budget::TextLimit;
use super::super::python::kind_name;
use super::super::tuple::{is_tuple, tuple};
use super::invalid::invalid;

/// `value[start:stop:step]`.
pub fn slice(
    limit: TextLimit,
    state: &State,
    value: Value,
    (start, stop, step): (Value, Value, Value),
) -> Result<Value, Error> {
    let bound =
        |value: Value| if value.is_none() { Ok(None) } else { i64::try_from(value).map(Some) };
    let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
    if step == 0 {
        return Err(invalid("the step of a slice must not be 0".into()));
    }
    let sliced = match value.kind() {
        ValueKind::String => {
            let chars: Vec<char> = value.as_str().unwrap_or_default().chars().collect();
            let indices = indices(chars.len(), start, stop, step);
            Value::from(indices.map(|index| chars[index]).collect::<String>())
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let indices = indices(items.len(), start, stop, step);
            let items: Vec<Value> = indices.map(|index| items[index].clone()).collect();
            if is_tuple(&value) {
                tuple(items)
            } else {
                Value::from(items)
            }
        }
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        _ => return Err(invalid(format!("a value of type {} has no slices", kind_name(&value)))),
    };
    limit.sized(state, sliced)
}

/// The indices that a slice takes from a sequence of `len` items, in order. `step` is not 0.
fn indices(
    len: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let len = len as i64;
    // The range to which both bounds are clamped.
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |bound: i64| {
        let from_the_start = if bound < 0 { bound.saturating_add(len) } else { bound };
        from_the_start.clamp(low, high)
    };
    let (first, end) = if step > 0 { (low, high) } else { (high, low) };
    let start = start.map_or(first, clamp);
    let stop = stop.map_or(end, clamp);
    let next = move |index: &i64| index.checked_add(step);
    let within = move |index: &i64| if step > 0 { *index < stop } else { *index > stop };
    std::iter::successors(Some(start), next).take_while(within).map(|index| index as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<usize> {
        indices(5, start, stop, step).collect()
    }

    #[test]
    fn slices_take_what_python_takes() {
        assert_eq!(taken(None, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(taken(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(taken(Some(1), Some(-1), 1), [1, 2, 3]);
        assert_eq!(taken(Some(-2), None, 1), [3, 4]);
        assert_eq!(taken(Some(-9), Some(9), 2), [0, 2, 4]);
        assert_eq!(taken(Some(9), Some(-9), -2), [4, 2, 0]);
        assert_eq!(taken(Some(3), Some(0), -1), [3, 2, 1]);
        assert_eq!(taken(Some(3), None, -3), [3, 0]);
        assert_eq!(taken(Some(3), Some(1), 1), [0; 0]);
        assert_eq!(taken(None, None, i64::MAX), [0]);
        assert_eq!(taken(None, None, i64::MIN), [4]);
        assert_eq!(indices(0, None, None, -1).count(), 0);
    }
}
