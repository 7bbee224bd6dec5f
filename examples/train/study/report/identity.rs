//! Whether frozen chains keep their exact weights: logits compared bit by bit.

use anyhow::Result;
use colm_testing::table::Table;

use super::Section;
use crate::experiments::name;
use crate::run_folder::RunFolder;
use crate::setting::CHAINS;

/// The compared models: two checkpoints, each at some k.
const COMPARISONS: [(&str, Model, Model); 7] = [
    ("the Llama; k = 1 of it expanded", Model("dense1", false, 1), Model("dense1", true, 1)),
    ("the Llama; k = 2 of it expanded", Model("dense1", false, 1), Model("dense1", true, 2)),
    ("the Llama; k = 1 after stage 2", Model("dense1", false, 1), Model("grown2", false, 1)),
    ("the Llama; k = 1 after stage 3", Model("dense1", false, 1), Model("grown3", false, 1)),
    ("k = 2 after stage 2; after stage 3", Model("grown2", false, 2), Model("grown3", false, 2)),
    (
        "k = 3 of the CoLM; with chain 4 tuned",
        Model("colm", false, CHAINS - 1),
        Model("tuned", false, CHAINS - 1),
    ),
    (
        "k = 4 of the CoLM; with chain 4 tuned (must differ)",
        Model("colm", false, CHAINS),
        Model("tuned", false, CHAINS),
    ),
];

/// A run, whether its checkpoint is expanded by a chain, and k.
#[derive(Clone, Copy)]
struct Model(&'static str, bool, usize);

impl Model {
    /// The logits on held-out prompts; `None` if the run is not finished.
    fn logits(self, runs: &RunFolder, seed: u64) -> Result<Option<Vec<f32>>> {
        let Self(run, expanded, k) = self;
        let run = name(run, seed);
        if runs.outcome(&run)?.is_none() {
            return Ok(None);
        }
        let folder = if expanded { runs.expanded(&run, seed)? } else { runs.checkpoint(&run) };
        Ok(Some(runs.logits(&folder)?.swap_remove(k - 1)))
    }
}

pub fn section(runs: &RunFolder, seeds: u64) -> Result<Option<Section>> {
    let mut table = Table::new(["models", "logits compared", "logits that differ"]);
    for (what, before, after) in COMPARISONS {
        let (mut compared, mut other) = (0, 0);
        for seed in 0..seeds {
            let both = [before, after].map(|model| model.logits(runs, seed));
            let [before, after] = both;
            if let (Some(before), Some(after)) = (before?, after?) {
                compared += before.len();
                let pairs = before.iter().zip(&after);
                other += pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            }
        }
        table.push([what.to_string(), compared.to_string(), other.to_string()]);
    }
    Ok(Some(Section { name: "identity", shown: table, stored: None, panels: Vec::new() }))
}
