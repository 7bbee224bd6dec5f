//! The error of operators.

use minijinja::{Error, ErrorKind};

pub fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
