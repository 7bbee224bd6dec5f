//! Whether the smaller models stay what they were, bit for bit.

use anyhow::Result;
use colm_testing::table::Table;

use super::Answer;
use crate::experiments::name;
use crate::setting::CHAINS;
use crate::workshop::Workshop;

/// What is compared: the models of two checkpoints, each at some k.
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

/// A run, whether what it left was expanded, and k.
#[derive(Clone, Copy)]
struct Model(&'static str, bool, usize);

impl Model {
    /// The logits on held-out prompts; None if the run is not finished.
    fn logits(self, workshop: &Workshop, seed: u64) -> Result<Option<Vec<f32>>> {
        let Self(run, expanded, k) = self;
        let run = name(run, seed);
        if workshop.outcome(&run)?.is_none() {
            return Ok(None);
        }
        let folder =
            if expanded { workshop.expanded(&run, seed)? } else { workshop.checkpoint(&run) };
        Ok(Some(workshop.logits(&folder)?.swap_remove(k - 1)))
    }
}

pub fn answer(workshop: &Workshop, seeds: u64) -> Result<Option<Answer>> {
    let mut table = Table::new(["models", "logits compared", "logits that differ"]);
    for (what, before, after) in COMPARISONS {
        let (mut compared, mut other) = (0, 0);
        for seed in 0..seeds {
            let both = [before, after].map(|model| model.logits(workshop, seed));
            let [before, after] = both;
            if let (Some(before), Some(after)) = (before?, after?) {
                compared += before.len();
                let pairs = before.iter().zip(&after);
                other += pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            }
        }
        table.push([what.to_string(), compared.to_string(), other.to_string()]);
    }
    Ok(Some(Answer { name: "identity", shown: table, stored: None, panels: Vec::new() }))
}
