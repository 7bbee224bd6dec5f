//! Training the last chain on new tasks.

use anyhow::Result;
use colm_testing::table::Table;
use colm_train::data::Task;

use super::Section;
use crate::model_runs::{push_row, ModelRuns, COLUMNS};
use crate::plot::{Line, Panel};
use crate::readme::{loss, percent};
use crate::run_folder::RunFolder;
use crate::setting::{CHAINS, NEW_TASKS, TASKS};

pub fn section(runs: &RunFolder, seeds: u64) -> Result<Option<Section>> {
    let of = |model: &str| ModelRuns::of(runs, model, seeds);
    let (Some(before), Some(after)) = (of("colm")?, of("tuned")?) else {
        return Ok(None);
    };
    let mut header = vec!["tasks".to_string()];
    for measure in ["loss", "exact %"] {
        for k in [CHAINS - 1, CHAINS] {
            header.extend(["before", "after"].map(|when| format!("{measure}, k = {k}, {when}")));
        }
    }

    let mut shown = Table::new(header);
    let mut stored = Table::new(COLUMNS);
    let new = NEW_TASKS.iter().map(|task| (format!("new: {}", task.name()), vec![*task]));
    for (name, tasks) in new.chain([("old, their mean".to_string(), TASKS.to_vec())]) {
        let ks = [CHAINS - 1, CHAINS];
        let both = || ks.into_iter().flat_map(|k| [(&before, k), (&after, k)]);
        let losses = both().map(|(measured, k)| loss(measured.loss(&tasks, k)));
        let exact = both().map(|(measured, k)| percent(measured.exact(&tasks, k)));
        shown.push(std::iter::once(name.clone()).chain(losses).chain(exact));
        for k in 1..=CHAINS {
            push_row(&mut stored, &format!("before, {name}"), &before, k, &tasks);
            push_row(&mut stored, &format!("after, {name}"), &after, k, &tasks);
        }
    }
    let line = |name, measured: &ModelRuns, tasks: &[Task], exact: bool| {
        let at = |k| {
            let value = if exact { measured.exact(tasks, k) } else { measured.loss(tasks, k) };
            value.map(|value| (k as f64, value))
        };
        Line { name, points: (1..=CHAINS).filter_map(at).collect() }
    };
    let lines = |exact| {
        vec![
            line("new tasks, before", &before, &NEW_TASKS, exact),
            line("new tasks, chain 4 tuned", &after, &NEW_TASKS, exact),
            line("old tasks, before", &before, &TASKS, exact),
            line("old tasks, chain 4 tuned", &after, &TASKS, exact),
        ]
    };
    let panels = vec![
        Panel { title: "Held-out loss, nats per token", axis: "k", lines: lines(false) },
        Panel { title: "Exact answers, share", axis: "k", lines: lines(true) },
    ];
    Ok(Some(Section { name: "chain_tuning", shown, stored: Some(stored), panels }))
}
