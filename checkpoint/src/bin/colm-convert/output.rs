//! Output to stdout and stderr, either of which may be full or closed.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use colm_checkpoint::escape_control;
use thiserror::Error;

/// Stdout cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to stdout")]
pub struct StdoutError(#[source] io::Error);

/// Prints a line to stdout. A closed pipe, as in `colm-convert inspect .. | head`, is not an error: the
/// conversion goes on without output.
pub fn print_line(line: impl Display) -> Result<(), StdoutError> {
    ignore_closed_pipe(writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()))
}

/// Prints the text of `--help` or `--version` to stdout.
pub fn print_help(help: &clap::Error) -> Result<(), StdoutError> {
    ignore_closed_pipe(help.print().and_then(|()| io::stdout().flush()))
}

/// Prints a line to stderr. Control characters, for example in file names, are escaped. Failure is
/// ignored.
pub fn eprint_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", escape_control(&line.to_string()));
}

fn ignore_closed_pipe(written: io::Result<()>) -> Result<(), StdoutError> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(StdoutError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
        assert!(ignore_closed_pipe(Err(ErrorKind::BrokenPipe.into())).is_ok());
        let full = ignore_closed_pipe(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(
            format!("{:#}", anyhow::Error::new(full)),
            "cannot write to stdout: no storage space"
        );
    }
}
