//! What sharing keys and values costs, and what it saves.

use anyhow::Result;
use colm_testing::statistics::Summary;
use colm_testing::table::Table;
use colm_train::card::kv_bytes_per_token;

use super::Answer;
use crate::measured::{cells, push_row, Measured, COLUMNS};
use crate::plot::{Line, Panel};
use crate::readme::loss;
use crate::setting::{CHAINS, TASKS};
use crate::workshop::Workshop;

pub fn answer(workshop: &Workshop, seeds: u64) -> Result<Option<Answer>> {
    let of = |model: &str| Measured::of(workshop, model, seeds);
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
    let line = |name, measured: &Measured, exact: bool| {
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
    Ok(Some(Answer { name: "air_against_colm", shown, stored: Some(stored), panels }))
}

/// By how much Air's loss is above CoLM's at `k`, seed by seed: the data is the same, so part of the
/// spread over the seeds drops out.
fn difference(air: &Measured, colm: &Measured, k: usize) -> Option<Summary> {
    let loss = |measured: &Measured, seed: u64| {
        let outcome =
            measured.outcomes.iter().find(|(of, _)| *of == seed).map(|(_, outcome)| outcome);
        outcome.and_then(|outcome| outcome.evaluation.of(&TASKS).loss().get(k - 1).copied())
    };
    let differences = colm.seeds().filter_map(|seed| Some(loss(air, seed)? - loss(colm, seed)?));
    Summary::of(&differences.collect::<Vec<_>>())
}
