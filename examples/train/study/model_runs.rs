//! The runs of one model over all seeds.

use anyhow::Result;
use colm_checkpoint::ColmConfig;
use colm_testing::statistics::Summary;
use colm_testing::table::Table;
use colm_train::card::{kv_bytes_per_token, weights_at};
use colm_train::data::Task;
use colm_train::evaluate::Evaluation;

use crate::experiments::name;
use crate::outcome::Outcome;
use crate::readme::{loss, percent};
use crate::run_folder::RunFolder;

/// The finished runs of one model.
pub struct ModelRuns {
    pub config: ColmConfig,
    /// The outcomes with their seeds.
    pub outcomes: Vec<(u64, Outcome)>,
}

impl ModelRuns {
    /// The finished runs of `model`; `None` if there are none.
    pub fn of(runs: &RunFolder, model: &str, seeds: u64) -> Result<Option<Self>> {
        let mut outcomes = Vec::new();
        for seed in 0..seeds {
            outcomes.extend(runs.outcome(&name(model, seed))?.map(|outcome| (seed, outcome)));
        }
        let Some((_, first)) = outcomes.first() else {
            return Ok(None);
        };
        Ok(Some(Self { config: ColmConfig::new(first.config.clone())?, outcomes }))
    }

    /// The seeds of the finished runs.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + '_ {
        self.outcomes.iter().map(|(seed, _)| *seed)
    }

    /// Keeps only seeds that are finished in `others` too, so that models are compared seed by seed.
    pub fn in_common_with(mut self, others: &[&Self]) -> Self {
        let in_all = |seed: u64| others.iter().all(|other| other.seeds().any(|of| of == seed));
        self.outcomes.retain(|(seed, _)| in_all(*seed));
        self
    }

    /// The held-out cross-entropy per token at `k` chains in nats: the mean over `tasks`.
    pub fn loss(&self, tasks: &[Task], k: usize) -> Option<Summary> {
        self.summary(tasks, k, Evaluation::loss)
    }

    /// The share of exactly correct answers at `k` chains: the mean over `tasks`.
    pub fn exact(&self, tasks: &[Task], k: usize) -> Option<Summary> {
        self.summary(tasks, k, Evaluation::accuracy)
    }

    /// The multiply-adds of training: the mean over the seeds.
    pub fn multiply_adds(&self) -> f64 {
        let all = self.outcomes.iter().map(|(_, outcome)| outcome.multiply_adds as f64);
        all.sum::<f64>() / self.outcomes.len() as f64
    }

    fn summary(
        &self,
        tasks: &[Task],
        k: usize,
        of: fn(&Evaluation) -> Vec<f64>,
    ) -> Option<Summary> {
        let at_k =
            |(_, outcome): &(u64, Outcome)| of(&outcome.evaluation.of(tasks)).get(k - 1).copied();
        let values: Option<Vec<f64>> = self.outcomes.iter().map(at_k).collect();
        Summary::of(&values?)
    }
}

/// The columns of [`push_row`].
pub const COLUMNS: [&str; 10] = [
    "model",
    "k",
    "weights",
    "KV bytes per token (f16)",
    "training multiply-adds",
    "seeds",
    "loss",
    "loss spread",
    "exact",
    "exact spread",
];

/// Adds the row of `model` at `k` chains on `tasks` to a table for a CSV file.
pub fn push_row(table: &mut Table, model: &str, runs: &ModelRuns, k: usize, tasks: &[Task]) {
    let values = [runs.loss(tasks, k), runs.exact(tasks, k)];
    let number = |value: Option<f64>| value.map(|value| format!("{value:.5}")).unwrap_or_default();
    let mut row = vec![
        model.to_string(),
        k.to_string(),
        weights_at(&runs.config, k).to_string(),
        kv_bytes_per_token(&runs.config, k).to_string(),
        format!("{:.0}", runs.multiply_adds()),
        runs.outcomes.len().to_string(),
    ];
    for value in values {
        row.push(number(value.map(|value| value.mean)));
        row.push(number(value.and_then(|value| value.spread)));
    }
    table.push(row);
}

/// Loss and share of correct answers as shown in the README.
pub fn cells(runs: &ModelRuns, k: usize, tasks: &[Task]) -> [String; 2] {
    [loss(runs.loss(tasks, k)), percent(runs.exact(tasks, k))]
}
