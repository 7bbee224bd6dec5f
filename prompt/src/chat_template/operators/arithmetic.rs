//! `+`, `-`, `*`, `/`, `//`, `%`, `**` and the sign `-`.

use std::iter::repeat_n;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::super::budget::{check_items, TextLimit};
use super::super::python::kind_name;
use super::super::tuple::{is_tuple, tuple};
use super::super::views::is_view;
use super::invalid::invalid;

/// A Python number. Booleans are integers.
#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Int(value.is_true().into())),
            ValueKind::Number if value.is_integer() => {
                i128::try_from(value.clone()).ok().map(Self::Int)
            }
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Float),
            _ => None,
        }
    }

    fn as_float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// The two operands of an operator.
enum Pair {
    Ints(i128, i128),
    Floats(f64, f64),
}

fn pair(sign: &str, a: &Value, b: &Value) -> Result<Pair, Error> {
    match (Number::of(a), Number::of(b)) {
        (Some(Number::Int(a)), Some(Number::Int(b))) => Ok(Pair::Ints(a, b)),
        (Some(a), Some(b)) => Ok(Pair::Floats(a.as_float(), b.as_float())),
        _ => Err(wrong_types(sign, a, b)),
    }
}

fn wrong_types(sign: &str, a: &Value, b: &Value) -> Error {
    if a.is_undefined() || b.is_undefined() {
        return Error::new(ErrorKind::UndefinedError, format!("`{sign}` of an undefined value"));
    }
    if a.is_number() && b.is_number() {
        return invalid("a whole number is too large".into());
    }
    invalid(format!("`{sign}` does not work for {} and {}", kind_name(a), kind_name(b)))
}

/// The result of a checked operation on integers; `None` is an overflow.
fn checked_int(result: Option<i128>) -> Result<Value, Error> {
    match result {
        Some(number) => Ok(i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)),
        None => Err(invalid("a whole number is too large".into())),
    }
}

fn no_division_by_zero(is_zero: bool) -> Result<(), Error> {
    if is_zero {
        Err(invalid("division by zero".into()))
    } else {
        Ok(())
    }
}

/// Whether `value` is a list or a tuple.
fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !is_view(value)
}

pub fn add(limit: TextLimit, state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(first), Some(second)) = (a.as_str(), b.as_str()) {
        limit.check(first.len() + second.len(), state)?;
        return Ok(Value::from([first, second].concat()));
    }
    if is_list(a) && is_list(b) && is_tuple(a) == is_tuple(b) {
        check_items(a.len().unwrap_or(0) + b.len().unwrap_or(0))?;
        let items: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
        return limit.sized(state, list_or_tuple(is_tuple(a), items));
    }
    match pair("+", a, b)? {
        Pair::Ints(a, b) => checked_int(a.checked_add(b)),
        Pair::Floats(a, b) => Ok(Value::from(a + b)),
    }
}

fn list_or_tuple(is_tuple: bool, items: Vec<Value>) -> Value {
    if is_tuple {
        tuple(items)
    } else {
        Value::from(items)
    }
}

pub fn subtract(a: &Value, b: &Value) -> Result<Value, Error> {
    match pair("-", a, b)? {
        Pair::Ints(a, b) => checked_int(a.checked_sub(b)),
        Pair::Floats(a, b) => Ok(Value::from(a - b)),
    }
}

pub fn multiply(limit: TextLimit, state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    let times = |count: &Value| match Number::of(count) {
        Some(Number::Int(count)) => Some(usize::try_from(count.max(0)).unwrap_or(usize::MAX)),
        _ => None,
    };
    for (repeated, count) in [(a, b), (b, a)] {
        let Some(count) = times(count) else { continue };
        if let Some(text) = repeated.as_str() {
            limit.check_repeated(count, text.len(), state)?;
            return Ok(Value::from(if text.is_empty() {
                String::new()
            } else {
                text.repeat(count)
            }));
        }
        if is_list(repeated) {
            check_items(count.saturating_mul(repeated.len().unwrap_or(0)))?;
            let once: Vec<Value> = repeated.try_iter()?.collect();
            let count = if once.is_empty() { 0 } else { count };
            let items = repeat_n(once, count).flatten().collect();
            return limit.checked(state, list_or_tuple(is_tuple(repeated), items));
        }
    }
    match pair("*", a, b)? {
        Pair::Ints(a, b) => checked_int(a.checked_mul(b)),
        Pair::Floats(a, b) => Ok(Value::from(a * b)),
    }
}

pub fn divide(a: &Value, b: &Value) -> Result<Value, Error> {
    let (a, b) = match pair("/", a, b)? {
        Pair::Ints(a, b) => (a as f64, b as f64),
        Pair::Floats(a, b) => (a, b),
    };
    no_division_by_zero(b == 0.)?;
    Ok(Value::from(a / b))
}

pub fn floor_divide(a: &Value, b: &Value) -> Result<Value, Error> {
    match pair("//", a, b)? {
        Pair::Ints(a, b) => {
            no_division_by_zero(b == 0)?;
            // Division of integers rounds toward 0.
            let rounded_up = a.wrapping_rem(b) != 0 && (a < 0) != (b < 0);
            checked_int(a.checked_div(b).map(|quotient| quotient - i128::from(rounded_up)))
        }
        Pair::Floats(a, b) => {
            no_division_by_zero(b == 0.)?;
            // Without the remainder the quotient is an integer up to rounding. `a / b` could round up to the
            // next integer.
            let quotient = (a - float_remainder(a, b)) / b;
            Ok(Value::from(quotient.round()))
        }
    }
}

pub fn remainder(a: &Value, b: &Value) -> Result<Value, Error> {
    match pair("%", a, b)? {
        Pair::Ints(a, b) => {
            no_division_by_zero(b == 0)?;
            let remainder = a.wrapping_rem(b);
            let wrong_sign = remainder != 0 && (remainder < 0) != (b < 0);
            checked_int(Some(if wrong_sign { remainder + b } else { remainder }))
        }
        Pair::Floats(a, b) => {
            no_division_by_zero(b == 0.)?;
            Ok(Value::from(float_remainder(a, b)))
        }
    }
}

/// The remainder with the sign of the divisor.
fn float_remainder(a: f64, b: f64) -> f64 {
    let remainder = a % b;
    if remainder == 0. {
        return 0f64.copysign(b);
    }
    if (remainder < 0.) != (b < 0.) {
        remainder + b
    } else {
        remainder
    }
}

pub fn power(a: &Value, b: &Value) -> Result<Value, Error> {
    let (a, b) = match pair("**", a, b)? {
        Pair::Ints(a, b) if b >= 0 => {
            let small = match a {
                // The power depends only on whether the exponent is 0, odd or even, so any exponent fits.
                -1..=1 => u32::try_from(b % 2 + 2 * i128::from(b > 0)).ok(),
                _ => u32::try_from(b).ok(),
            };
            return checked_int(small.and_then(|b| a.checked_pow(b)));
        }
        Pair::Ints(a, b) => (a as f64, b as f64),
        Pair::Floats(a, b) => (a, b),
    };
    no_division_by_zero(a == 0. && b < 0.)?;
    let power = a.powf(b);
    match (a.is_finite() && b.is_finite(), power.is_nan(), power.is_infinite()) {
        (true, true, _) => Err(invalid("`**` of a negative number is not a real number".into())),
        (true, _, true) => Err(invalid("`**` is too large".into())),
        _ => Ok(Value::from(power)),
    }
}

pub fn negate(a: &Value) -> Result<Value, Error> {
    match Number::of(a) {
        Some(Number::Int(number)) => checked_int(number.checked_neg()),
        Some(Number::Float(number)) => Ok(Value::from(-number)),
        None => Err(wrong_types("-", a, a)),
    }
}
