//! Arguments of filters.

use minijinja::value::Kwargs;
use minijinja::{Error, Value};

/// The positional argument if there is one, or else the one named `name`.
pub fn argument(
    positional: Option<Value>,
    options: &Kwargs,
    name: &str,
) -> Result<Option<Value>, Error> {
    match positional {
        Some(value) => Ok(Some(value)),
        None => options.get(name),
    }
}
