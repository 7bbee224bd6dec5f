//! CoLM-Air against CoLM: loss and KV cache size.

use anyhow::Result;
use colm_testing::statistics::Summary;
use colm_testing::table::Table;
use colm_train::card::kv_bytes_per_token;

use super::Section;
use crate::model_runs::{cells, push_row, ModelRuns, COLUMNS};
use crate::plot::{Line, Panel};
use crate::readme::loss;
use crate::run_folder::RunFolder;
use crate::setting::{CHAINS, TASKS};

pub fn section(runs: &RunFolder, seeds: u64) -> Result<Option<Section>> {
    let of = |model: &str| ModelRuns::of(runs, model, seeds);
    let (Some(colm), Some(air)) = (of("colm")?, of("air")?) else {
        return Ok(None);
    };
    let header = [
        "k",
        "KV bytes per token, CoLM",
        "KV bytes, Air",
        "loss, CoLM",
        "loss, Air",
        "Air's loss - CoLM's",
        "exact %, CoLM",
        "exact %, Air",
    ];
    let mut shown = Table::new(header);
    let mut stored = Table::new(COLUMNS);
    for k in 1..=CHAINS {
        let [colm_loss, colm_exact] = cells(&colm, k, &TASKS);
        let [air_loss, air_exact] = cells(&air, k, &TASKS);
        shown.push([
            k.to_string(),
            kv_bytes_per_token(&colm.config, k).to_string(),
            kv_bytes_per_token(&air.config, k).to_string(),
            colm_loss,
            air_loss,
            loss(difference(&air, &colm, k)),
            colm_exact,
            air_exact,
        ]);
        push_row(&mut stored, "CoLM", &colm, k, &TASKS);
        push_row(&mut stored, "CoLM-Air", &air, k, &TASKS);
    }
    let line = |name, measured: &ModelRuns, exact: bool| {
        let at = |k| {
            let value = if exact { measured.exact(&TASKS, k) } else { measured.loss(&TASKS, k) };
            value.map(|value| (kv_bytes_per_token(&measured.config, k) as f64, value))
        };
        Line { name, points: (1..=CHAINS).filter_map(at).collect() }
    };
    let lines = |exact| {
        vec![line("CoLM at k = 1 to 4", &colm, exact), line("CoLM-Air at k = 1 to 4", &air, exact)]
    };
    let axis = "KV bytes per token";
    let panels = vec![
        Panel { title: "Held-out loss, nats per token", axis, lines: lines(false) },
        Panel { title: "Exact answers, share", axis, lines: lines(true) },
    ];
    Ok(Some(Section { name: "air_against_colm", shown, stored: Some(stored), panels }))
}

/// The difference of the losses of Air and CoLM at `k`, by seed. Both see the same data, so part of the spread over the
/// seeds cancels.
fn difference(air: &ModelRuns, colm: &ModelRuns, k: usize) -> Option<Summary> {
    let loss = |measured: &ModelRuns, seed: u64| {
        let outcome =
            measured.outcomes.iter().find(|(of, _)| *of == seed).map(|(_, outcome)| outcome);
        outcome.and_then(|outcome| outcome.evaluation.of(&TASKS).loss().get(k - 1).copied())
    };
    let differences = colm.seeds().filter_map(|seed| Some(loss(air, seed)? - loss(colm, seed)?));
    Summary::of(&differences.collect::<Vec<_>>())
}
