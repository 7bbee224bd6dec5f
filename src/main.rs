//! `colm`: the command line.

mod cli;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("colm: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
