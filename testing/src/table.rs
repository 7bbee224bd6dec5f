//! Tables of text: aligned for a terminal, as CSV and as Markdown.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{presets, CellAlignment};

/// Rows of text under a header. The first column is aligned to the left, the others to the right.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row with one cell per column.
    ///
    /// # Panics
    /// If the number of cells is not that of the header.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        let row: Vec<String> = row.into_iter().collect();
        assert_eq!(row.len(), self.header.len(), "{row:?} does not fit {:?}", self.header);
        self.rows.push(row);
    }

    /// Writes a CSV file with a header.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let mut csv = csv::Writer::from_path(path)?;
            csv.write_record(&self.header)?;
            self.rows.iter().try_for_each(|row| csv.write_record(row))?;
            Ok(csv.flush()?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The table in Markdown, each line with a line break.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = " ---: |".repeat(self.header.len() - 1);
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}| --- |{rule}\n{rows}", line(&self.header))
    }
}

/// Aligned columns, without lines between them.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_header(&self.header).add_rows(&self.rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if index > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{}", table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["model", "ms"]);
        table.push(["Air".into(), "86".into()]);
        table.push(["Llama".into(), "1180".into()]);
        table
    }

    #[test]
    fn numbers_are_aligned_to_the_right() {
        assert_eq!(table().to_string(), "model    ms\nAir      86\nLlama  1180");
    }

    #[test]
    fn markdown_and_csv_have_every_cell() {
        let markdown = "| model | ms |\n| --- | ---: |\n| Air | 86 |\n| Llama | 1180 |\n";
        assert_eq!(table().markdown(), markdown);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        table().save(&path).unwrap();
        let csv = std::fs::read_to_string(path).unwrap();
        assert_eq!(csv, "model,ms\nAir,86\nLlama,1180\n");
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_row_of_another_length_is_refused() {
        table().push(["Air".into()]);
    }
}
