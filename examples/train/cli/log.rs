//! The training log: a CSV file with a row per step.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use colm_train::state::beside;
use colm_train::train::StepReport;

/// An open log. Columns: step (from 0), learning rate, gradient norm before clipping, loss at every k.
pub struct Log(csv::Writer<File>);

impl Log {
    /// Opens the log at `path` for a run that starts at `step`. Rows of earlier steps are kept; later ones are dropped,
    /// because those steps run again.
    pub fn open(path: &Path, chains: usize, step: usize) -> Result<Self> {
        let open = || -> Result<Self> {
            let kept = kept_rows(path, step)?;
            if kept.is_empty() {
                return Self::begin(path, chains, &kept);
            }
            // Write to another file and rename it, so that an interruption leaves the old rows intact.
            let unfinished = beside(path, ".unfinished");
            let log = Self::begin(&unfinished, chains, &kept)?;
            std::fs::rename(&unfinished, path)?;
            Ok(log)
        };
        open().with_context(|| format!("the log {}", path.display()))
    }

    /// Creates the file at `path` with the names of the columns and the rows `kept`.
    fn begin(path: &Path, chains: usize, kept: &[csv::StringRecord]) -> Result<Self> {
        let mut log = csv::Writer::from_path(path)?;
        let losses = (1..=chains).map(|k| format!("loss at k = {k}"));
        let names = ["step", "learning rate", "gradient norm"].map(String::from);
        log.write_record(names.into_iter().chain(losses))?;
        kept.iter().try_for_each(|row| log.write_record(row))?;
        // The next row may be minutes away.
        log.flush()?;
        Ok(Self(log))
    }

    /// Adds a row.
    pub fn add(&mut self, step: usize, report: &StepReport) -> Result<()> {
        let numbers =
            [report.learning_rate, report.gradient_norm].into_iter().chain(report.losses.clone());
        let row = std::iter::once(step.to_string()).chain(numbers.map(|number| number.to_string()));
        self.0.write_record(row)?;
        // Flush every row, so that the log can be watched.
        Ok(self.0.flush()?)
    }
}

/// The rows of steps before `step` in the log at `path`, which need not exist.
fn kept_rows(path: &Path, step: usize) -> Result<Vec<csv::StringRecord>> {
    let mut kept = Vec::new();
    if step > 0 && path.exists() {
        for row in csv::Reader::from_path(path)?.records() {
            let row = row?;
            if row.get(0).context("an empty row")?.parse::<usize>()? < step {
                kept.push(row);
            }
        }
    }
    Ok(kept)
}
