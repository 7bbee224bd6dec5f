//! Speed of prefill and decode at every chain count, compared with llama.cpp and mistral.rs's own Llama of the same
//! width. `benches/README.md` describes the measurements; `make bench ARGS=--help` lists the options.

mod args;
mod cells;
mod checkpoint;
mod contender;
mod engines;
mod plot;
mod process;
mod protocol;
mod python;
mod report;
mod results;
mod rounds;
mod shape;
mod targets;
mod worker;
mod workload;

use std::fs;

use anyhow::{Context, Result};
use args::{Args, Command};
use clap::Parser;
use colm_testing::table::Table;
use python::Python;
use results::Results;
use rounds::Rounds;

fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::Worker) => tokio::runtime::Runtime::new()?.block_on(worker::run()),
        None => bench(&args),
    }
}

fn bench(args: &Args) -> Result<()> {
    let python = Python::from_env();
    let llama_cpp = python.llama_cpp().unwrap_or_else(|error| format!("{error:#}"));
    let folder = args.folder();
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut all = Vec::new();
    for setting in args.settings() {
        let results = Rounds::prepare(args, &python, setting)?.run()?;
        let name = setting.name();
        show(&report::single(&results)?, &format!("{name}-single"), args)?;
        show(&report::overall(&results), &format!("{name}-overall"), args)?;
        for (contender, reason) in results.unavailable() {
            println!("{contender}: {reason}");
        }
        plot::save(&results, &folder.join(format!("{name}.svg")))?;
        all.push(results);
    }
    show(&targets::table(&all)?, "targets", args)?;
    report::values(&all).save(&folder.join("values.csv"))?;
    println!("\n{}\n", machine());
    println!("llama.cpp: {llama_cpp}");
    print_notes(args, &all);
    println!("CSV and SVG files: {}", folder.display());
    Ok(())
}

fn show(table: &Table, name: &str, args: &Args) -> Result<()> {
    println!("\n{name}");
    println!("{table}");
    table.save(&args.folder().join(format!("{name}.csv")))
}

/// The processor that the figures depend on.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {model}")
}

fn print_notes(args: &Args, all: &[Results]) {
    let decode = all.first().map_or(0, |results| results.decode);
    println!(
        "Medians of {} rounds. Prefill: time from the request to its first new token. Decode: time per token over \
         the {decode} tokens after it. Time / weight bytes: decode time relative to colm [1], divided by the share of \
         colm [1]'s weight bytes (linear layers and head) that are read at k; with KV bytes: the same with the KV \
         cache included. Concurrent: tokens of all prompts and answers over the time from the requests to the last \
         token. Air and CoLM are other models than the Llamas: the same width, fewer multiply-adds.",
        args.rounds
    );
    if let Some(precision) = args.matmul_precision {
        println!("colm multiplies activations in {precision}.");
    }
}
