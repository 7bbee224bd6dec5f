//! `colm-convert inspect`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use colm_checkpoint::inspect::{inspect, Inspection};

use crate::output::print_line;
use crate::table;
use crate::units::count;

const EXAMPLES: &str = "\
Examples:
  colm-convert inspect colm-1b
  colm-convert inspect colm-1b --json";

/// Show what a checkpoint is and what every chain count costs. Only headers are read. A folder
/// may also hold config.json alone.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
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
        table::widths(&found.widths),
        String::new(),
        table::costs(&found.costs),
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
