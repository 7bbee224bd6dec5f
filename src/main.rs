//! `colm`: the command line.

mod cli;

use std::process::ExitCode;

use cli::output::{error_message, print_stderr, StdoutError};

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        // As in `colm run .. | head`, where the reader closes the pipe early.
        Err(error) if StdoutError::find(&error).is_some_and(StdoutError::is_broken_pipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_stderr(format!("colm: error: {}", error_message(&error)));
            ExitCode::FAILURE
        }
    }
}
