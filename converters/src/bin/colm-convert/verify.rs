//! `colm-convert verify`

use std::path::PathBuf;

use anyhow::{bail, Result};
use clap::Args;
use colm_checkpoint::escaped;
use colm_checkpoint::verify::verify;

use crate::output::say;
use crate::progress::Bar;

/// Reads a checkpoint through and lists everything that is wrong with it: tensors missing or unknown,
/// shapes, dtypes, index, values that are NaN or infinite, values where zeros must be, JSON that
/// is none. Exit status 1 if there is anything.
///
/// Example: colm-convert verify colm-1b
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Verify {
    /// The folder to read.
    dir: PathBuf,
}

impl Verify {
    pub fn run(self) -> Result<()> {
        let mut bar: Option<Bar> = None;
        let problems = verify(&self.dir, |progress| {
            bar.get_or_insert_with(|| Bar::new(progress.total)).set(progress);
        });
        if let Some(bar) = bar {
            bar.finish();
        }
        for problem in &problems {
            say(escaped(&problem.to_string()))?;
        }
        match problems.len() {
            0 => Ok(say(format!("{}: no problems", self.dir.display()))?),
            1 => bail!("{}: 1 problem", self.dir.display()),
            count => bail!("{}: {count} problems", self.dir.display()),
        }
    }
}
