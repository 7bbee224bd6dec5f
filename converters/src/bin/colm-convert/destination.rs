//! From where to where: what all commands that write have in common.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use colm_checkpoint::convert::ConversionPlan;
use colm_checkpoint::{remove_stale_folders, Removal, Source, StaleFolder};

use crate::output::{say, tell};
use crate::progress::Bar;

#[derive(Args)]
pub struct Destination {
    /// The folder to read.
    src: PathBuf,
    /// The folder to write: a new one, outside SRC.
    dst: PathBuf,
    /// Replace DST if it exists, once the new one is complete. A symbolic link stays; the folder it leads to is
    /// replaced.
    #[arg(long)]
    force: bool,
}

impl Destination {
    pub fn open_source(&self) -> Result<Source> {
        Source::open(&self.src).with_context(|| format!("cannot convert {}", self.src.display()))
    }

    /// Refuses what cannot be written where it is to be, before the weights are read. Removes what earlier
    /// runs have left there.
    pub fn prepare(&self, source: &Source, plan: &ConversionPlan) -> Result<()> {
        if self.force || !self.dst.exists() {
            remove_stale_folders(&self.dst).iter().for_each(|leftover| tell(note(leftover)));
        }
        plan.check_destination(source, &self.dst, self.force).with_context(|| self.not_written())
    }

    /// To be called after [`Self::prepare`].
    pub fn write(&self, source: &Source, plan: &ConversionPlan) -> Result<()> {
        let mut bar = Bar::new(plan.byte_len());
        plan.write(source, &self.dst, self.force, |progress| bar.set(progress))
            .with_context(|| self.not_written())?;
        bar.finish();
        let files = plan.files().len();
        let s = if files == 1 { "" } else { "s" };
        Ok(say(format!("{}: {files} weight file{s}", self.dst.display()))?)
    }

    fn not_written(&self) -> String {
        format!("{} is not written", self.dst.display())
    }

    pub fn src(&self) -> &std::path::Path {
        &self.src
    }
}

fn note(leftover: &StaleFolder) -> String {
    let path = leftover.path.display();
    match &leftover.removal {
        Removal::Removed => format!("note: {path} is removed; a run that was interrupted left it"),
        Removal::InUse => format!("note: {path} stays; the process that writes it seems to run"),
        Removal::OnlyCopy => format!(
            "note: {path} stays; a run that was interrupted was about to replace it, and nothing is in \
             its place"
        ),
        Removal::Failed(error) => format!("note: {path} is left over and cannot be removed: {error}"),
    }
}
