//! What the results say: CSV files, plots, and the tables of the README.

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
use crate::workshop::Workshop;

/// One question of the study.
pub struct Answer {
    /// The name of the table's markers in the README, and of the CSV and SVG files.
    pub name: &'static str,
    /// For the README.
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
    let path = dir.join("README.md");
    let mut text = std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}, which the tables go into", path.display()))?;
    for answer in answers.into_iter().flatten() {
        text = readme::insert(&text, answer.name, &answer.shown)
            .with_context(|| path.display().to_string())?;
        let csv = dir.join(format!("{}.csv", answer.name));
        answer.stored.as_ref().unwrap_or(&answer.shown).save(&csv)?;
        if !answer.panels.is_empty() {
            plot::save(&answer.panels, &dir.join(format!("{}.svg", answer.name)))?;
        }
    }
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
