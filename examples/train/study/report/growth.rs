//! Chain expansion against training the final shape at once.

use anyhow::Result;
use colm_testing::table::Table;

use super::Section;
use crate::model_runs::{push_row, ModelRuns, COLUMNS};
use crate::plot::{Line, Panel};
use crate::readme::{loss, percent};
use crate::run_folder::RunFolder;
use crate::setting::{GROWN, TASKS};

pub fn section(runs: &RunFolder, seeds: u64) -> Result<Option<Section>> {
    let of = |model: &str| ModelRuns::of(runs, model, seeds);
    let (Some(first), Some(second), Some(third), Some(scratch)) =
        (of("dense1")?, of("grown2")?, of("grown3")?, of("scratch")?)
    else {
        return Ok(None);
    };
    let scratch = scratch.in_common_with(&[&first, &second, &third]);
    let [first, second, third] =
        [first, second, third].map(|stage| stage.in_common_with(&[&scratch]));
    if scratch.outcomes.is_empty() {
        return Ok(None);
    }
    let mut header = vec!["after".to_string(), "10^9 multiply-adds so far".to_string()];
    for measure in ["loss", "exact %"] {
        header.extend((1..=GROWN).map(|k| format!("{measure}, k = {k}")));
    }

    let mut shown = Table::new(header);
    let mut stored = Table::new(COLUMNS);
    let mut total = 0.;
    for (name, measured) in [
        ("stage 1: a Llama", &first),
        ("stage 2: chain 2, chain 1 frozen", &second),
        ("stage 3: chain 3, chains 1 and 2 frozen", &third),
        ("from scratch, all k at once", &scratch),
    ] {
        let so_far = if name.starts_with("stage") {
            total += measured.multiply_adds();
            total
        } else {
            measured.multiply_adds()
        };
        let losses = (1..=GROWN).map(|k| loss(measured.loss(&TASKS, k)));
        let exact = (1..=GROWN).map(|k| percent(measured.exact(&TASKS, k)));
        let cost = format!("{:.0}", so_far / 1e9);
        shown.push([name.to_string(), cost].into_iter().chain(losses).chain(exact));
        for k in 1..=measured.config.chains.count() {
            push_row(&mut stored, name, measured, k, &TASKS);
        }
    }
    let points = |measured: &ModelRuns, exact: bool| {
        let value = |k| if exact { measured.exact(&TASKS, k) } else { measured.loss(&TASKS, k) };
        (1..=GROWN).filter_map(|k| value(k).map(|value| (k as f64, value))).collect()
    };
    let lines = |exact| {
        vec![
            Line { name: "grown chain by chain", points: points(&third, exact) },
            Line { name: "from scratch, same compute", points: points(&scratch, exact) },
        ]
    };
    let panels = vec![
        Panel { title: "Held-out loss, nats per token", axis: "k", lines: lines(false) },
        Panel { title: "Exact answers, share", axis: "k", lines: lines(true) },
    ];
    Ok(Some(Section { name: "growth", shown, stored: Some(stored), panels }))
}
