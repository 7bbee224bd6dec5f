//! A table: written as CSV, and into a README between two marks.

use std::path::Path;

use anyhow::{Context, Result};
use colm_train::statistics::Summary;

/// Rows of text under a header.
pub struct Table {
    /// Of the CSV file and of the marks in the README.
    pub name: &'static str,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub fn new(name: &'static str, header: &[&str]) -> Self {
        let header = header.iter().map(|name| name.to_string()).collect();
        Self { name, header, rows: Vec::new() }
    }

    /// One more row, a cell per column.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Writes `NAME.csv` into `dir`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(format!("{}.csv", self.name));
        let write = || -> Result<()> {
            let mut csv = csv::Writer::from_path(&path)?;
            csv.write_record(&self.header)?;
            self.rows.iter().try_for_each(|row| csv.write_record(row))?;
            Ok(csv.flush()?)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// `text` with the table between its marks `<!-- NAME -->` and `<!-- end of NAME -->`.
    pub fn put_into(&self, text: &str) -> Result<String> {
        let (begin, end) =
            (format!("<!-- {} -->", self.name), format!("<!-- end of {} -->", self.name));
        let missing = || format!("no {begin} followed by {end} in it");
        let (before, rest) = text.split_once(&begin).with_context(missing)?;
        let (_, after) = rest.split_once(&end).with_context(missing)?;
        Ok(format!("{before}{begin}\n\n{}\n{end}{after}", self.markdown()))
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: String = std::iter::repeat_n(" ---: |", self.header.len() - 1).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}| --- |{rule}\n{rows}", line(&self.header))
    }
}

/// Mean and spread, such as `1.203 ± 0.011`.
pub fn loss(summary: Option<Summary>) -> String {
    written(summary, |value| format!("{value:.3}"))
}

/// Mean and spread of a share in percent, such as `34.1 ± 0.8`.
pub fn percent(summary: Option<Summary>) -> String {
    written(summary, |value| format!("{:.1}", 100. * value))
}

fn written(summary: Option<Summary>, value: impl Fn(f64) -> String) -> String {
    match summary {
        None => "-".into(),
        Some(Summary { mean, spread: None, .. }) => value(mean),
        Some(Summary { mean, spread: Some(spread), .. }) => {
            format!("{} ± {}", value(mean), value(spread))
        }
    }
}
