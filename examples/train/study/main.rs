//! Progressive scaling and elastic quality, measured on small trained models:
//! `cargo run --release -p colm-train --example study`.
//!
//! Every finished run leaves a result in the state folder and is not repeated; an interrupted one goes
//! on from its last state. Tables, CSV files and plots are made from the results that are there.

mod experiments;
mod measured;
mod outcome;
mod plot;
mod readme;
mod report;
mod setting;
mod workshop;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use setting::Setting;
use workshop::Workshop;

/// Trains the models of docs/study and writes its tables and plots.
#[derive(Parser)]
struct Arguments {
    /// Where results, checkpoints and unfinished runs are kept.
    #[arg(long, default_value = "target/study")]
    state: PathBuf,
    /// Where CSV files, plots and the README's tables go.
    #[arg(long, default_value = "docs/study")]
    out: PathBuf,
    /// Every model is trained once per seed.
    #[arg(long, default_value_t = 2)]
    seeds: u64,
    /// Runs side by side, a thread each.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Optimizer steps of a run.
    #[arg(long, default_value_t = 1200)]
    steps: usize,
    /// Train nothing: report what there is.
    #[arg(long)]
    report: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // A thread per run; a matrix product is not split further.
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    let setting = Setting { steps: arguments.steps };
    let workshop = Workshop::open(&arguments.state, setting)?;
    if !arguments.report {
        experiments::run(&workshop, arguments.seeds, arguments.jobs)?;
    }
    report::write(&workshop, arguments.seeds, &arguments.out)
}
