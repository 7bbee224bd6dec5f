//! The trained models and the amount of training.

use anyhow::Result;
use colm_testing::table::Table;
use colm_train::card::weights_at;

use super::Section;
use crate::model_runs::ModelRuns;
use crate::run_folder::RunFolder;

/// The models of the study in the order of the README, with descriptions.
const MODELS: [(&str, &str); 10] = [
    ("colm", "CoLM"),
    ("air", "CoLM-Air"),
    ("dense1", "Llama, as large as CoLM at k = 1; stage 1 of growing"),
    ("dense2", "Llama, as CoLM at k = 2"),
    ("dense3", "Llama, as CoLM at k = 3"),
    ("dense4", "Llama, as CoLM at k = 4"),
    ("grown2", "stage 2 of growing: one chain more"),
    ("grown3", "stage 3 of growing: one chain more"),
    ("scratch", "the shape of stage 3 from random weights"),
    ("tuned", "CoLM, last chain tuned on new tasks"),
];

pub fn section(runs: &RunFolder, seeds: u64) -> Result<Option<Section>> {
    let header = [
        "model",
        "chains",
        "hidden size",
        "layers",
        "weights",
        "steps",
        "million tokens",
        "10^9 multiply-adds",
        "seeds",
    ];
    let mut table = Table::new(header);
    for (model, description) in MODELS {
        let Some(measured) = ModelRuns::of(runs, model, seeds)? else {
            continue;
        };
        let (config, (_, outcome)) = (&measured.config, &measured.outcomes[0]);
        table.push([
            description.to_string(),
            format!("{:?}", config.file.chains),
            config.file.hidden_size.to_string(),
            config.file.num_hidden_layers.to_string(),
            weights_at(config, config.chains.count()).to_string(),
            outcome.recipe.steps.to_string(),
            format!("{:.2}", outcome.tokens as f64 / 1e6),
            format!("{:.0}", measured.multiply_adds() / 1e9),
            measured.outcomes.len().to_string(),
        ]);
    }
    Ok(Some(Section { name: "setting", shown: table, stored: None, panels: Vec::new() }))
}
