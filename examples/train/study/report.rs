//! What the results say: CSV files, plots, and the tables of the README.

mod against_dense;
mod air;
mod growth;
mod identity;
mod setting;
mod tuning;

use std::path::Path;

use anyhow::{Context, Result};

use crate::plot::{self, Panel};
use crate::table::Table;
use crate::workshop::Workshop;

/// One question of the study.
pub struct Answer {
    /// For the README; its name is that of its place there, and of the SVG file.
    pub shown: Table,
    /// For a CSV file, if not the same.
    pub stored: Option<Table>,
    pub panels: Vec<Panel>,
}

/// Writes into `dir` what is known of `seeds` seeds. The README there must have the tables' marks.
pub fn write(workshop: &Workshop, seeds: u64, dir: &Path) -> Result<()> {
    let answers = [
        setting::answer(workshop, seeds)?,
        against_dense::answer(workshop, seeds)?,
        growth::answer(workshop, seeds)?,
        identity::answer(workshop, seeds)?,
        air::answer(workshop, seeds)?,
        tuning::answer(workshop, seeds)?,
    ];
    let readme = dir.join("README.md");
    let mut text = std::fs::read_to_string(&readme)
        .with_context(|| format!("reading {}, which the tables go into", readme.display()))?;
    for answer in answers.into_iter().flatten() {
        text = answer.shown.put_into(&text).with_context(|| readme.display().to_string())?;
        answer.stored.as_ref().unwrap_or(&answer.shown).save(dir)?;
        if !answer.panels.is_empty() {
            plot::save(&answer.panels, &dir.join(format!("{}.svg", answer.shown.name)))?;
        }
    }
    std::fs::write(&readme, text).with_context(|| format!("writing {}", readme.display()))
}
