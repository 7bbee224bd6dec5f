//! `colm-convert verify`

use std::path::PathBuf;

use anyhow::{bail, Result};
use clap::Args;
use colm_checkpoint::escape_control;
use colm_checkpoint::verify::{verify, Problem};

use crate::numbers::chain_count;
use crate::output::print_line;
use crate::progress::Bar;

/// How many problems are printed.
const MAX_LISTED: usize = 100;

const EXAMPLES: &str = "\
Example: colm-convert verify colm-1b";

/// Read a checkpoint completely and list everything that is wrong with it: missing or unknown tensors,
/// wrong shapes and dtypes, a wrong index, values that are NaN or infinite, nonzero values above the
/// diagonal, and side files that cannot be read or are not valid JSON. The first 100 problems are
/// printed. The exit code is 1 if there are any.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The folder to read.
    dir: PathBuf,
    /// Verify the first K chains alone; the files of the others may be missing [default: all].
    #[arg(long, value_name = "K", value_parser = chain_count, allow_negative_numbers = true)]
    chains: Option<usize>,
}

impl Verify {
    pub fn run(self) -> Result<()> {
        let mut bar: Option<Bar> = None;
        let problems = verify(&self.dir, self.chains, |progress| {
            bar.get_or_insert_with(|| Bar::new(progress.total)).set(progress);
        });
        if let Some(bar) = bar {
            bar.finish();
        }
        for problem in problems.iter().take(MAX_LISTED) {
            print_line(escape_control(&problem.to_string()))?;
        }
        let dir = self.dir.display();
        match problems.iter().map(Problem::count).sum() {
            0 => Ok(print_line(format!("{dir}: no problems"))?),
            1 => bail!("{dir}: 1 problem"),
            count if count <= MAX_LISTED => bail!("{dir}: {count} problems"),
            count => {
                print_line(format!(
                    "{dir}: at least {} more problems are not listed",
                    count - MAX_LISTED
                ))?;
                bail!("{dir}: at least {count} problems")
            }
        }
    }
}
