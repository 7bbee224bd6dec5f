//! CSV files, plots and the tables of the README.

mod against_dense;
mod air;
mod growth;
mod identity;
mod setting;
mod tuning;

use std::path::Path;

use anyhow::{Context, Result};
use colm_testing::table::Table;

use crate::plot::{self, Panel};
use crate::readme;
use crate::run_folder::RunFolder;

/// A section of the study.
pub struct Section {
    /// The name of the table's markers in the README, and of the CSV and SVG files.
    pub name: &'static str,
    /// The table in the README.
    pub shown: Table,
    /// The table in the CSV file; `None` if it is the same.
    pub stored: Option<Table>,
    pub panels: Vec<Panel>,
}

/// Writes the results of `seeds` seeds to `dir`. Its README.md must have the markers of the tables.
pub fn write(runs: &RunFolder, seeds: u64, dir: &Path) -> Result<()> {
    let sections = [
        setting::section(runs, seeds)?,
        against_dense::section(runs, seeds)?,
        growth::section(runs, seeds)?,
        identity::section(runs, seeds)?,
        air::section(runs, seeds)?,
        tuning::section(runs, seeds)?,
    ];
    let path = dir.join("README.md");
    let mut text = std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}, which the tables go into", path.display()))?;
    for section in sections.into_iter().flatten() {
        text = readme::insert(&text, section.name, &section.shown)
            .with_context(|| path.display().to_string())?;
        let csv = dir.join(format!("{}.csv", section.name));
        section.stored.as_ref().unwrap_or(&section.shown).save(&csv)?;
        if !section.panels.is_empty() {
            plot::save(&section.panels, &dir.join(format!("{}.svg", section.name)))?;
        }
    }
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
