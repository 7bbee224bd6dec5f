//! `colm`: the command line.

mod cli;

use std::process::ExitCode;

use cli::output::{in_words, tell, StdoutError};

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        // As in `colm run .. | head`: who reads the answer has what it wants.
        Err(error) if StdoutError::of(&error).is_some_and(StdoutError::nobody_reads) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(format!("colm: error: {}", in_words(&error)));
            ExitCode::FAILURE
        }
    }
}
