//! One CoLM against a Llama of each size, trained on the same tokens.

use anyhow::Result;
use colm_testing::table::Table;
use colm_train::card::weights_at;

use super::Section;
use crate::model_runs::{cells, push_row, ModelRuns, COLUMNS};
use crate::plot::{Line, Panel};
use crate::run_folder::RunFolder;
use crate::setting::{CHAINS, TASKS};

pub fn section(runs: &RunFolder, seeds: u64) -> Result<Option<Section>> {
    let of = |model: &str| ModelRuns::of(runs, model, seeds);
    let dense = (1..=CHAINS).map(|k| better(runs, seeds, k));
    let dense = dense.collect::<Result<Option<Vec<_>>>>()?;
    let (Some(colm), Some(air), Some(dense)) = (of("colm")?, of("air")?, dense) else {
        return Ok(None);
    };
    let header = [
        "k",
        "weights, CoLM",
        "weights, Llama",
        "rate, Llama",
        "loss, CoLM",
        "loss, Air",
        "loss, Llama",
        "exact %, CoLM",
        "exact %, Air",
        "exact %, Llama",
    ];
    let mut shown = Table::new(header);
    let mut stored = Table::new(COLUMNS);
    for k in 1..=CHAINS {
        let llama = &dense[k - 1];
        let [colm_loss, colm_exact] = cells(&colm, k, &TASKS);
        let [air_loss, air_exact] = cells(&air, k, &TASKS);
        let [llama_loss, llama_exact] = cells(llama, 1, &TASKS);
        let weights = [weights_at(&colm.config, k), weights_at(&llama.config, 1)];
        let [of_colm, of_llama] = weights.map(|weights| weights.to_string());
        shown.push([
            k.to_string(),
            of_colm,
            of_llama,
            llama.outcomes[0].1.recipe.learning_rate.to_string(),
            colm_loss,
            air_loss,
            llama_loss,
            colm_exact,
            air_exact,
            llama_exact,
        ]);
        push_row(&mut stored, "CoLM", &colm, k, &TASKS);
        push_row(&mut stored, "CoLM-Air", &air, k, &TASKS);
        push_row(&mut stored, &format!("Llama as large as CoLM at k = {k}"), llama, 1, &TASKS);
    }
    let thousands = |measured: &ModelRuns, k| weights_at(&measured.config, k) as f64 / 1e3;
    let lines = |exact: bool| {
        let at = |measured: &ModelRuns, k| {
            let value = if exact { measured.exact(&TASKS, k) } else { measured.loss(&TASKS, k) };
            value.map(|value| (thousands(measured, k), value))
        };
        let chained = |measured: &ModelRuns| (1..=CHAINS).filter_map(|k| at(measured, k)).collect();
        vec![
            Line { name: "CoLM at k = 1 to 4", points: chained(&colm) },
            Line { name: "CoLM-Air at k = 1 to 4", points: chained(&air) },
            Line {
                name: "a Llama per size",
                points: dense.iter().filter_map(|llama| at(llama, 1)).collect(),
            },
        ]
    };
    let axis = "thousand weights";
    let panels = vec![
        Panel { title: "Held-out loss, nats per token", axis, lines: lines(false) },
        Panel { title: "Exact answers, share", axis, lines: lines(true) },
    ];
    Ok(Some(Section { name: "against_dense", shown, stored: Some(stored), panels }))
}

/// The Llamas of the size of the CoLM at `k`, with the learning rate that has the lower mean loss. A learning rate with
/// fewer finished seeds is not chosen.
fn better(runs: &RunFolder, seeds: u64, k: usize) -> Result<Option<ModelRuns>> {
    let full = ModelRuns::of(runs, &format!("dense{k}"), seeds)?;
    let half = ModelRuns::of(runs, &format!("dense{k}-half"), seeds)?;
    let loss = |measured: &ModelRuns| measured.loss(&TASKS, 1).map_or(f64::MAX, |loss| loss.mean);
    let finished = |measured: &ModelRuns| measured.outcomes.len();
    Ok(full
        .into_iter()
        .chain(half)
        .min_by(|a, b| finished(b).cmp(&finished(a)).then(loss(a).total_cmp(&loss(b)))))
}
