//! Tables on the terminal.

use colm_checkpoint::inspect::{ChainShares, Cost};

use crate::units::{bytes, count};

/// The widths of every chain.
pub fn widths(widths: &[ChainShares]) -> String {
    let heading = ["chain", "hidden", "intermediate", "heads", "key/value heads"];
    let rows = widths.iter().enumerate().map(|(i, widths)| {
        let numbers = [i + 1, widths.hidden, widths.intermediate, widths.heads, widths.kv_heads];
        numbers.map(|number| number.to_string()).to_vec()
    });
    table(heading, rows)
}

/// What every chain count costs.
pub fn costs(costs: &[Cost]) -> String {
    let heading = [
        "chains",
        "parameters",
        "on disk",
        "in memory",
        "q8_0",
        "q4k",
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
            bytes(cost.quantized_bytes["q8_0"]),
            bytes(cost.quantized_bytes["q4k"]),
            bytes(cost.kv_bytes_per_token),
            count(cost.prompt_multiply_adds),
            count(cost.decode_multiply_adds),
            cost.files.as_ref().map_or("-".into(), |files| files.len().to_string()),
        ]
    };
    let table = table(heading, costs.iter().map(row));
    format!(
        "{table}\n\nin memory: as stored, and quantized while loading; KV/token: in f32\nmultiply-adds: of the linear \
         layers, when decoding of the head too"
    )
}

/// A table with right-aligned columns.
fn table<const N: usize>(heading: [&str; N], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<_> = std::iter::once(heading.map(String::from).to_vec()).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
