//! What a run may overwrite: nothing of another run or model unless a flag says so.

use std::path::Path;

use anyhow::{bail, ensure, Result};

use crate::arguments::Arguments;

impl Arguments {
    /// Fails if the run would replace the checkpoint of --out or of --from, or the state or the log of an earlier run,
    /// without a flag that says so.
    pub fn check_outputs(&self) -> Result<()> {
        // First, so that an error does not suggest --force alone where --resume is meant.
        if !self.force && !self.resume {
            self.check_earlier_run()?;
        }
        ensure!(
            self.force || !self.out.exists(),
            "--out {} exists; --force replaces it",
            self.out.display()
        );
        if let Some(dir) = &self.from {
            ensure!(
                !is_same_folder(dir, &self.out),
                "--out is --from {}; expected another folder",
                dir.display()
            );
        }
        Ok(())
    }

    /// Fails if there is the state or the log of an earlier run.
    fn check_earlier_run(&self) -> Result<()> {
        let state = self.state();
        ensure!(
            !state.exists(),
            "--state {} exists; --resume continues its run, and --force starts again and replaces it",
            state.display()
        );
        // A pipe or a device keeps no rows that could be lost.
        if let Some(log) = self.log.as_ref().filter(|log| log.is_file()) {
            bail!(
                "--log {} exists, and there is no state {} to resume; --force starts again and replaces the log, or \
                 choose another --log",
                log.display(),
                state.display()
            );
        }
        Ok(())
    }
}

/// Whether two paths lead to one folder, however they are written.
fn is_same_folder(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
