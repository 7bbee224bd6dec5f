//! From where to where: what all commands that write have in common.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use colm_checkpoint::new_folder::leftovers;
use colm_checkpoint::{Plan, Source};

use crate::progress::Bar;

#[derive(Args)]
pub struct Destination {
    /// The folder to read.
    src: PathBuf,
    /// The folder to write: a new one, outside SRC.
    dst: PathBuf,
    /// Replace DST if it exists, once the new one is complete.
    #[arg(long)]
    force: bool,
}

impl Destination {
    pub fn open_source(&self) -> Result<Source> {
        Source::open(&self.src).with_context(|| format!("cannot convert {}", self.src.display()))
    }

    pub fn write(&self, source: &Source, plan: &Plan) -> Result<()> {
        for leftover in leftovers(&self.dst) {
            eprintln!(
                "note: {} is of a run that was interrupted or still writes; if none does, it can \
                 be removed",
                leftover.display()
            );
        }
        let mut bar = Bar::new(plan.byte_len());
        plan.write(source, &self.dst, self.force, |progress| bar.set(progress))
            .with_context(|| format!("{} is not written", self.dst.display()))?;
        bar.finish();
        let files = plan.files().len();
        println!(
            "{}: {files} weight file{}",
            self.dst.display(),
            if files == 1 { "" } else { "s" }
        );
        Ok(())
    }

    pub fn src(&self) -> &std::path::Path {
        &self.src
    }
}
