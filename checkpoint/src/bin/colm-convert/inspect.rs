//! `colm-convert inspect`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use colm_checkpoint::inspect::{inspect, Cost, Inspection};

use crate::output::print_line;
use crate::units::{bytes, count};

/// Shows what a checkpoint is and what every number of chains costs. Only headers are read. A folder
/// may also hold config.json alone.
///
/// Examples:
///   colm-convert inspect colm-1b
///   colm-convert inspect colm-1b --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Inspect {
    /// The folder to read.
    dir: PathBuf,
    /// Print JSON: the fields of `colm_checkpoint::inspect::Inspection`.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let found =
            inspect(&self.dir).with_context(|| format!("cannot inspect {}", self.dir.display()))?;
        let text = if self.json { serde_json::to_string_pretty(&found)? } else { text(&found) };
        Ok(print_line(text)?)
    }
}

fn text(found: &Inspection) -> String {
    let kind = if found.is_llama { "of the Llama family, as " } else { "" };
    let sizes = format!(
        "{} layers, vocabulary {}, head dimension {}, {} positions, embeddings {}",
        found.layers,
        found.vocab_size,
        found.head_dim,
        found.max_position_embeddings,
        if found.tie_word_embeddings { "tied" } else { "not tied" },
    );
    let weights = match found.layout {
        Some(layout) => format!("layout {layout}, {}", dtypes(found)),
        None => format!("no weights found; bytes are counted in {}", found.dtype),
    };
    [
        format!("{kind}{}, chains {:?}", found.architecture, found.chains),
        sizes,
        weights,
        String::new(),
        table(&widths(found)),
        String::new(),
        table(&costs(found)),
        String::new(),
        "multiply-adds: of the linear layers, when decoding of the head too".into(),
    ]
    .join("\n")
}

fn dtypes(found: &Inspection) -> String {
    let named = found.dtypes.iter().map(|(dtype, parameters)| match found.dtypes.len() {
        1 => dtype.clone(),
        _ => format!("{} {dtype}", count(*parameters)),
    });
    named.collect::<Vec<_>>().join(", ")
}

fn widths(found: &Inspection) -> Vec<Vec<String>> {
    let heading = ["chain", "hidden", "intermediate", "heads", "key/value heads"];
    let rows = found.widths.iter().enumerate().map(|(i, widths)| {
        let numbers = [i + 1, widths.hidden, widths.intermediate, widths.heads, widths.kv_heads];
        numbers.map(|number| number.to_string()).to_vec()
    });
    std::iter::once(heading.map(String::from).to_vec()).chain(rows).collect()
}

fn costs(found: &Inspection) -> Vec<Vec<String>> {
    let heading = [
        "chains",
        "parameters",
        "on disk",
        "in memory",
        "KV/token",
        "multiply-adds/prompt token",
        "/decoded token",
        "files",
    ];
    let row = |cost: &Cost| {
        vec![
            cost.chains.to_string(),
            count(cost.parameters),
            cost.disk_bytes.map_or("-".into(), |disk| bytes(disk.into())),
            bytes(cost.memory_bytes),
            bytes(cost.kv_bytes_per_token),
            count(cost.prompt_multiply_adds),
            count(cost.decode_multiply_adds),
            cost.files.as_ref().map_or("-".into(), |files| files.len().to_string()),
        ]
    };
    std::iter::once(heading.map(String::from).to_vec()).chain(found.costs.iter().map(row)).collect()
}

/// A table with right-aligned columns.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
