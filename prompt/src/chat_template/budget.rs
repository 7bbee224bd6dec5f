//! Limits of one rendering: steps, time, and the size of values.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minijinja::value::{Object, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Steps of one rendering, as minijinja counts them. Long conversations take some hundred thousand.
pub const FUEL: u64 = 5_000_000;

/// The longest source of a template, in bytes; known templates have up to 60 kB.
pub const MAX_SOURCE: usize = 256 << 10;

/// The least that the longest text may be set to, in bytes.
const LEAST_TEXT: usize = 64 * 1024;

/// How long a rendering may take.
const TIME: Duration = Duration::from_secs(5);

/// Bytes of all the values that one rendering makes, kept or not.
const TOTAL_BYTES: u64 = 512 << 20;

/// Bytes of the texts inside one value, however often they are shared.
const MAX_INSIDE: usize = 256 << 20;

/// Items of a list that a template makes.
const MAX_ITEMS: usize = 1 << 20;

/// Levels of lists and maps inside one another.
const MAX_DEPTH: usize = 64;

/// The longest text that a template may make, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct TextLimit(usize);

impl TextLimit {
    /// A limit of `bytes`, at least 64 KiB.
    pub fn new(bytes: usize) -> Self {
        Self(bytes.max(LEAST_TEXT))
    }

    /// Refuses a text of `bytes` bytes.
    pub fn fits(self, bytes: usize) -> Result<(), Error> {
        if bytes > self.0 {
            let most = self.0;
            let message =
                format!("the template makes a text of {bytes} bytes; a prompt has at most {most}");
            return Err(refused(message));
        }
        Ok(())
    }

    /// As [`Self::fits`], and counts it as made.
    pub fn check(self, bytes: usize, state: &State) -> Result<(), Error> {
        self.fits(bytes)?;
        Spent::of(state).count(bytes as u64)
    }

    /// As [`Self::check`], for a text of `count` times `bytes` bytes.
    pub fn check_repeated(self, count: usize, bytes: usize, state: &State) -> Result<(), Error> {
        self.check(count.saturating_mul(bytes), state)
    }

    /// `value`, unless it is too large.
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

    /// `value`, unless it is too large or too deep.
    pub fn checked(self, state: &State, value: Value) -> Result<Value, Error> {
        let value = self.sized(state, value)?;
        Inside::default().add(&value, MAX_DEPTH)?;
        Ok(value)
    }
}

/// Refuses lists that are too long.
pub fn check_items(items: usize) -> Result<(), Error> {
    if items > MAX_ITEMS {
        let message =
            format!("the template makes a list of {items} items; expected at most {MAX_ITEMS}");
        return Err(refused(message));
    }
    Ok(())
}

/// What is inside a value. What is shared counts every time, as it costs time every time that it is read.
#[derive(Default)]
struct Inside {
    values: usize,
    bytes: usize,
}

impl Inside {
    /// Adds `value`, which may have `left` more levels. Values that nest without end overflow the stack when they
    /// are written or dropped.
    fn add(&mut self, value: &Value, left: usize) -> Result<(), Error> {
        self.values += 1;
        self.bytes = self.bytes.saturating_add(value.as_str().map_or(0, str::len));
        if self.values > MAX_ITEMS || self.bytes > MAX_INSIDE {
            return Err(refused("the template makes a list or map that is too large".into()));
        }
        let children = match value.kind() {
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => value.try_iter().ok(),
            _ => None,
        };
        // Objects such as cyclers have no items.
        let Some(children) = children else { return Ok(()) };
        if left == 0 {
            let message =
                format!("the template nests lists or maps more than {MAX_DEPTH} levels deep");
            return Err(refused(message));
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

/// An error of a template that takes too much.
pub fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message).with_source(TooMuch)
}

/// The source of errors of templates that take too much.
#[derive(Debug, thiserror::Error)]
#[error("the template takes too much")]
pub struct TooMuch;

/// What a rendering has taken so far.
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
            return Err(refused(message));
        }
        if self.since.elapsed() > TIME {
            return Err(refused(format!("the template takes more than {} s", TIME.as_secs())));
        }
        Ok(())
    }
}

/// The rendered text, which is at most as long as a prompt.
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

    /// The text, or why it or `rendered` failed.
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
