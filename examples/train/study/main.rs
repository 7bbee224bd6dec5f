//! Chain expansion and elastic quality, measured on small trained models:
//! `cargo run --release -p colm-train --example study`.
//!
//! Finished runs have a result in the state folder and are not repeated; interrupted runs continue from their last
//! state. Tables, CSV files and plots are made from the results that exist.

mod experiments;
mod model_runs;
mod outcome;
mod plot;
mod readme;
mod report;
mod run_folder;
mod setting;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use run_folder::RunFolder;
use setting::Setting;

/// Trains the models of docs/study and writes its tables and plots.
#[derive(Parser)]
struct Arguments {
    /// The folder for results, checkpoints and unfinished runs.
    #[arg(long, default_value = "target/study")]
    state: PathBuf,
    /// The folder for CSV files and plots; its README.md gets the tables.
    #[arg(long, default_value = "docs/study")]
    out: PathBuf,
    /// The number of seeds; every model is trained once per seed.
    #[arg(long, default_value_t = 2)]
    seeds: u64,
    /// The number of parallel runs, with one thread each.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Optimizer steps of a run.
    #[arg(long, default_value_t = 1200)]
    steps: usize,
    /// Train nothing; report the results that exist.
    #[arg(long)]
    report: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // Each run has one thread; matrix products run on one thread each.
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    let setting = Setting { steps: arguments.steps };
    let runs = RunFolder::open(&arguments.state, setting)?;
    if !arguments.report {
        experiments::run(&runs, arguments.seeds, arguments.jobs)?;
    }
    report::write(&runs, arguments.seeds, &arguments.out)
}
