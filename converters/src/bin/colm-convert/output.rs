//! Stdout and stderr, either of which may be full or closed.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use colm_checkpoint::escape_control;
use thiserror::Error;

/// Why stdout cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to stdout")]
pub struct StdoutError(#[source] io::Error);

/// Writes a line to stdout. Where nobody reads it any more, as in `colm-convert inspect .. | head`, it is left
/// out, and the work goes on: a conversion is not for those who read of it.
pub fn say(line: impl Display) -> Result<(), StdoutError> {
    unless_closed(writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()))
}

/// Writes what `--help` or `--version` asks for.
pub fn show(help: &clap::Error) -> Result<(), StdoutError> {
    unless_closed(help.print().and_then(|()| io::stdout().flush()))
}

/// Writes a line to stderr: one, whatever names of files are in it. Nothing depends on whether it can be written.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", escape_control(&line.to_string()));
}

fn unless_closed(written: io::Result<()>) -> Result<(), StdoutError> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(StdoutError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_and_a_closed_pipe_is_none() {
        assert!(unless_closed(Err(ErrorKind::BrokenPipe.into())).is_ok());
        let full = unless_closed(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(
            format!("{:#}", anyhow::Error::new(full)),
            "cannot write to stdout: no storage space"
        );
    }
}
