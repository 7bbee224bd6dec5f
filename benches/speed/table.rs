//! A table: printed with aligned columns, written as CSV.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

/// Rows of text under a header; the first column is aligned to the left, the others to the right.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|name| name.to_string()).collect(), rows: Vec::new() }
    }

    /// One more row, a cell per column.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.header.len(), "{row:?} does not fit {:?}", self.header);
        self.rows.push(row);
    }

    /// On standard output.
    pub fn print(&self) {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| {
            lines().map(|line| line[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        for line in lines() {
            let first = format!("{:<width$}", line[0], width = widths[0]);
            let others = line.iter().zip(&widths).skip(1);
            let others = others.map(|(cell, width)| format!("  {cell:>width$}"));
            println!("{}", first + &others.collect::<String>());
        }
    }

    /// Writes a CSV file with a header.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut csv = csv::Writer::from_writer(File::create(path)?);
        csv.write_record(&self.header)?;
        for row in &self.rows {
            csv.write_record(row)?;
        }
        Ok(csv.flush()?)
    }
}

/// A number in three or four digits; a dash for none.
pub fn cell(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() >= 100. => format!("{value:.0}"),
        Some(value) if value.abs() >= 10. => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// Such as 2.5x.
pub fn times(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        some => cell(some) + "x",
    }
}
