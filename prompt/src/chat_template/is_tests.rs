//! Tests (`is`) for which Jinja differs from minijinja.

use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

use super::operators::compare;

/// Tests that are operators.
const COMPARISONS: [(&str, &[&str]); 7] = [
    ("==", &["eq", "equalto", "=="]),
    ("!=", &["ne", "!="]),
    ("<", &["lt", "lessthan", "<"]),
    ("<=", &["le", "<="]),
    (">", &["gt", "greaterthan", ">"]),
    (">=", &["ge", ">="]),
    ("in", &["in"]),
];

/// Adds the tests to `env`.
pub fn add_to(env: &mut Environment<'static>) {
    env.add_test("iterable", |value: &Value| !is_scalar(value));
    env.add_test("sequence", |value: &Value| !is_scalar(value));
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    env.add_test("lower", |value: &Value| {
        is_cased(&value.to_string(), char::is_lowercase, char::is_uppercase)
    });
    env.add_test("upper", |value: &Value| {
        is_cased(&value.to_string(), char::is_uppercase, char::is_lowercase)
    });
    for (sign, names) in COMPARISONS {
        for name in names {
            env.add_test(*name, move |a: &Value, b: &Value| compare(a, sign, b));
        }
    }
    env.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
}

/// Whether a value is not iterable. An undefined value is iterable and empty.
fn is_scalar(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number)
}

/// Whether a string has cased letters, all of the same case.
pub fn is_cased(text: &str, one: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    text.chars().any(one) && !text.chars().any(other)
}
