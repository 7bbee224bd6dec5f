//! Stdout and stderr, either of which may be full or closed.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use colm_checkpoint::shortened;
use thiserror::Error;

use super::flags::with_flags;

/// Writes a line to stderr. Nothing depends on whether it can be written.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Causes that begin alike are the same: in other messages long ones are shortened.
const BEGIN: usize = 100;

/// `error` and its causes on one line, each told once: many errors end with their cause.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = without_backtrace(&cause.to_string());
        if !told.last().is_some_and(|last| last.contains(start(&with_flags(&cause), BEGIN))) {
            told.push(shortened(&with_flags(&cause)).into_owned());
        }
    }
    told.join(": ")
}

/// The first bytes of `text`, at most so many.
fn start(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Errors of the host carry backtraces where RUST_BACKTRACE is set.
fn without_backtrace(message: &str) -> String {
    let is_frame = |line: &&str| !line.trim_start().starts_with("0: ");
    let lines: Vec<&str> = message.lines().take_while(is_frame).collect();
    lines.join("\n")
}

/// Stdout, whose errors are [`StdoutError`]s.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(of_stdout)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(of_stdout)
    }
}

/// `error`, known as one of stdout.
pub fn of_stdout(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), StdoutError(error))
}

/// Why stdout cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to stdout")]
pub struct StdoutError(#[source] io::Error);

impl StdoutError {
    /// Whether this is why there is `error`.
    pub fn of(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }

    /// Whether stdout is a pipe without a reader.
    pub fn nobody_reads(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_of_stdout_is_known_in_any_context() {
        let error =
            |kind: ErrorKind| anyhow::Error::new(of_stdout(kind.into())).context("no answer");
        assert!(StdoutError::of(&error(ErrorKind::BrokenPipe)).unwrap().nobody_reads());
        let full = error(ErrorKind::StorageFull);
        assert!(!StdoutError::of(&full).unwrap().nobody_reads());
        assert_eq!(format!("{full:#}"), "no answer: cannot write to stdout: no storage space");
    }

    #[test]
    fn causes_are_told_once_and_without_backtraces() {
        let cause = anyhow::anyhow!("no such file\n   0: candle_core::error\n   1: main");
        let error = cause.context("a.json: no such file").context("cannot load a");
        assert_eq!(in_words(&error), "cannot load a: a.json: no such file");
    }

    #[test]
    fn other_broken_pipes_are_not_those_of_stdout() {
        let error = io::Error::from(ErrorKind::BrokenPipe);
        assert!(StdoutError::of(&Err::<(), _>(error).context("hub").unwrap_err()).is_none());
    }
}
