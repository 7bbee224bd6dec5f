//! Source and destination: what all commands that write have in common.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context, Result};
use clap::Args;
use colm_checkpoint::convert::ConversionPlan;
use colm_checkpoint::{remove_stale_folders, Removal, Source, StaleFolder};

use crate::output::{eprint_line, print_line};
use crate::progress::Bar;

#[derive(Args)]
pub struct Destination {
    /// The folder to read.
    src: PathBuf,
    /// The folder to write: a new one, outside SRC.
    dst: PathBuf,
    /// Replace DST if it exists, once the new one is complete. A symbolic link remains, and the folder it leads to is
    /// replaced.
    #[arg(long)]
    force: bool,
}

impl Destination {
    pub fn open_source(&self) -> Result<Source> {
        Source::open(&self.src).with_context(|| self.not_converted())
    }

    /// The first `k` chains of SRC; the files of the others may be missing.
    pub fn open_chains(&self, k: usize) -> Result<Source> {
        let (config, _) = Source::read_config(&self.src).with_context(|| self.not_converted())?;
        config.chain_count(k).map_err(|error| anyhow!("--{error}"))?;
        Source::open_chains(&self.src, k).with_context(|| self.not_converted())
    }

    fn not_converted(&self) -> String {
        format!("cannot convert {}", self.src.display())
    }

    /// Checks that `plan` can be written, before any weights are read. Removes what killed processes
    /// left beside the destination.
    pub fn prepare(&self, source: &Source, plan: &ConversionPlan) -> Result<()> {
        if self.force || !self.dst.exists() {
            let folders = remove_stale_folders(&self.dst);
            folders.iter().for_each(|folder| eprint_line(note(folder)));
        }
        plan.check_destination(source, &self.dst, self.force).with_context(|| self.not_written())
    }

    /// Writes `plan`, after [`Self::prepare`].
    pub fn write(&self, source: &Source, plan: &ConversionPlan) -> Result<()> {
        let mut bar = Bar::new(plan.byte_len());
        plan.write(source, &self.dst, self.force, |progress| bar.set(progress))
            .with_context(|| self.not_written())?;
        bar.finish();
        self.note_tokenizer();
        let files = plan.files().len();
        let s = if files == 1 { "" } else { "s" };
        Ok(print_line(format!("{}: {files} weight file{s}", self.dst.display()))?)
    }

    /// Weights are written with any tokenizer files. This says at once what the engine would say.
    fn note_tokenizer(&self) {
        let has = |file| self.dst.join(file).exists();
        if has("tokenizer.model") && !has("tokenizer.json") {
            eprint_line(format!(
                "note: {}: tokenizer.model is not read; add tokenizer.json, which \
                 AutoTokenizer.from_pretrained(..).save_pretrained(..) of transformers writes",
                self.dst.display()
            ));
        }
    }

    fn not_written(&self) -> String {
        format!("{} is not written", self.dst.display())
    }

    pub fn src(&self) -> &Path {
        &self.src
    }
}

fn note(folder: &StaleFolder) -> String {
    let path = folder.path.display();
    match &folder.removal {
        Removal::Removed => format!("note: {path} is removed; an interrupted run left it"),
        Removal::InUse => format!("note: {path} stays; the process that writes it seems to run"),
        Removal::OnlyCopy => format!(
            "note: {path} stays; an interrupted run was about to replace it, and nothing is in its place"
        ),
        Removal::Failed(error) => {
            format!("note: {path} is left by an interrupted run and cannot be removed: {error}")
        }
    }
}
