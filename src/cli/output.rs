//! Writes to stdout and stderr, either of which may be full or closed.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use colm_checkpoint::abbreviate;
use thiserror::Error;

use super::flags::with_flags;

/// Writes a line to stderr and ignores errors.
pub fn print_stderr(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Two causes are the same if this many bytes at the beginning are equal. Messages that quote a long cause shorten it.
const PREFIX_BYTES: usize = 100;

/// `error` and its causes on one line. A cause that the message before it quotes is omitted.
pub fn error_message(error: &anyhow::Error) -> String {
    let mut messages: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = with_flags(&without_backtrace(&cause.to_string()));
        if !messages.last().is_some_and(|last| last.contains(prefix(&cause, PREFIX_BYTES))) {
            messages.push(abbreviate(&cause).into_owned());
        }
    }
    messages.join(": ")
}

/// The first characters of `text`, at most `bytes` bytes.
fn prefix(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Removes the backtrace that errors of the host contain if RUST_BACKTRACE is set.
fn without_backtrace(message: &str) -> String {
    let is_frame = |line: &&str| !line.trim_start().starts_with("0: ");
    let lines: Vec<&str> = message.lines().take_while(is_frame).collect();
    lines.join("\n")
}

/// Stdout, whose errors are [`StdoutError`]s.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(stdout_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(stdout_error)
    }
}

/// Marks `error` as an error of stdout.
pub fn stdout_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), StdoutError(error))
}

/// Stdout cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to stdout")]
pub struct StdoutError(#[source] io::Error);

impl StdoutError {
    /// The error of stdout that caused `error`, if any.
    pub fn find(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }

    /// Whether stdout is a pipe whose reader is gone.
    pub fn is_broken_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_of_stdout_is_found_in_any_context() {
        let error =
            |kind: ErrorKind| anyhow::Error::new(stdout_error(kind.into())).context("no answer");
        assert!(StdoutError::find(&error(ErrorKind::BrokenPipe)).unwrap().is_broken_pipe());
        let full = error(ErrorKind::StorageFull);
        assert!(!StdoutError::find(&full).unwrap().is_broken_pipe());
        assert_eq!(format!("{full:#}"), "no answer: cannot write to stdout: no storage space");
    }

    #[test]
    fn causes_appear_once_and_without_backtraces() {
        let cause = anyhow::anyhow!("no such file\n   0: candle_core::error\n   1: main");
        let error = cause.context("a.json: no such file").context("cannot load a");
        assert_eq!(error_message(&error), "cannot load a: a.json: no such file");
    }

    #[test]
    fn other_broken_pipes_are_not_errors_of_stdout() {
        let error = io::Error::from(ErrorKind::BrokenPipe);
        assert!(StdoutError::find(&Err::<(), _>(error).context("hub").unwrap_err()).is_none());
    }
}
