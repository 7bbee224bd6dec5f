//! Limits of one rendering: steps, time, and the size of values.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minijinja::value::{Object, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// The most steps of one rendering, as minijinja counts them. Long conversations take some hundred thousand.
pub const FUEL: u64 = 5_000_000;

/// The longest source of a template, in bytes; known templates have up to 60 kB.
pub const MAX_SOURCE: usize = 256 << 10;

/// The smallest limit of the length of a string, in bytes.
const MIN_TEXT: usize = 64 * 1024;

/// The longest time of one rendering.
const TIME: Duration = Duration::from_secs(5);

/// The most bytes of all values that one rendering creates, including temporary ones.
const TOTAL_BYTES: u64 = 512 << 20;

/// The most bytes of all strings in one value. Shared strings count each time.
const MAX_INSIDE: usize = 256 << 20;

/// The most items of a list that a template creates.
const MAX_ITEMS: usize = 1 << 20;

/// The deepest nesting of lists and maps.
const MAX_DEPTH: usize = 64;

/// The longest string that a template may create, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct TextLimit(usize);

impl TextLimit {
    /// A limit of `bytes`, at least 64 KiB.
    pub fn new(bytes: usize) -> Self {
        Self(bytes.max(MIN_TEXT))
    }

    /// Checks a string of `bytes` bytes.
    pub fn fits(self, bytes: usize) -> Result<(), Error> {
        if bytes > self.0 {
            let most = self.0;
            let message =
                format!("the template makes a text of {bytes} bytes; a prompt has at most {most}");
            return Err(Error::new(ErrorKind::InvalidOperation, message).with_source(TooLong));
        }
        Ok(())
    }

    /// As [`Self::fits`], and counts the string as created.
    pub fn check(self, bytes: usize, state: &State) -> Result<(), Error> {
        self.fits(bytes)?;
        Spent::of(state).count(bytes as u64)
    }

    /// As [`Self::check`], for a string of `count` times `bytes` bytes.
    pub fn check_repeated(self, count: usize, bytes: usize, state: &State) -> Result<(), Error> {
        self.check(count.saturating_mul(bytes), state)
    }

    /// `value`; an error if it is too large.
    pub fn sized(self, state: &State, value: Value) -> Result<Value, Error> {
        match value.kind() {
            ValueKind::String => self.check(value.as_str().map_or(0, str::len), state)?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.len().unwrap_or(0);
                check_items(items)?;
                Spent::of(state).count((items * size_of::<Value>()) as u64)?;
            }
            _ => Spent::of(state).count(0)?,
        }
        Ok(value)
    }

    /// `value`; an error if it is too large or too deep.
    pub fn checked(self, state: &State, value: Value) -> Result<Value, Error> {
        let value = self.sized(state, value)?;
        Inside::default().add(&value, MAX_DEPTH)?;
        Ok(value)
    }
}

/// Checks the length of a list.
pub fn check_items(items: usize) -> Result<(), Error> {
    if items > MAX_ITEMS {
        let message =
            format!("the template makes a list of {items} items; expected at most {MAX_ITEMS}");
        return Err(limit_error(message));
    }
    Ok(())
}

/// The contents of a value. Shared contents count each time, because reading them takes time each time.
#[derive(Default)]
struct Inside {
    values: usize,
    bytes: usize,
}

impl Inside {
    /// Adds `value`, which may be nested `left` levels deep. Deeper values would overflow the stack when
    /// they are written or dropped.
    fn add(&mut self, value: &Value, left: usize) -> Result<(), Error> {
        self.values += 1;
        self.bytes = self.bytes.saturating_add(value.as_str().map_or(0, str::len));
        if self.values > MAX_ITEMS || self.bytes > MAX_INSIDE {
            return Err(limit_error("the template makes a list or map that is too large".into()));
        }
        let children = match value.kind() {
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => value.try_iter().ok(),
            _ => None,
        };
        // Objects such as cyclers are not iterable.
        let Some(children) = children else { return Ok(()) };
        if left == 0 {
            let message =
                format!("the template nests lists or maps more than {MAX_DEPTH} levels deep");
            return Err(limit_error(message));
        }
        for child in children {
            match value.kind() {
                ValueKind::Map => self.add(&value.get_item(&child)?, left - 1)?,
                _ => self.add(&child, left - 1)?,
            }
        }
        Ok(())
    }
}

/// The error of a template that exceeds a limit.
pub fn limit_error(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message).with_source(TooMuch)
}

/// The source of errors of templates that exceed a limit.
#[derive(Debug, thiserror::Error)]
#[error("the template exceeds a limit")]
pub struct TooMuch;

/// The source of errors of templates that make a text longer than a prompt.
#[derive(Debug, thiserror::Error)]
#[error("the text is longer than a prompt")]
pub struct TooLong;

/// What a rendering has used so far.
#[derive(Debug)]
struct Spent {
    bytes: AtomicU64,
    since: Instant,
}

impl Object for Spent {}

impl Spent {
    fn of(state: &State) -> Arc<Self> {
        let start = || Self { bytes: AtomicU64::new(0), since: Instant::now() };
        state.get_or_set_temp_object("spent", start)
    }

    fn count(&self, bytes: u64) -> Result<(), Error> {
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if total > TOTAL_BYTES {
            let message =
                format!("the template makes more than {TOTAL_BYTES} bytes of text in all");
            return Err(limit_error(message));
        }
        if self.since.elapsed() > TIME {
            return Err(limit_error(format!("the template takes more than {} s", TIME.as_secs())));
        }
        Ok(())
    }
}

/// The rendered text, limited to the length of a prompt.
pub struct Output {
    text: Vec<u8>,
    limit: TextLimit,
    full: Option<Error>,
}

impl Output {
    /// Empty.
    pub fn new(limit: TextLimit) -> Self {
        Self { text: Vec::new(), limit, full: None }
    }

    /// The text, or the error of writing it or of `rendered`.
    pub fn finish(self, rendered: Result<(), Error>) -> Result<String, Error> {
        match self.full {
            Some(full) => Err(full),
            None => rendered.map(|()| String::from_utf8_lossy(&self.text).into_owned()),
        }
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(full) = self.limit.fits(self.text.len() + bytes.len()) {
            self.full = Some(full);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
