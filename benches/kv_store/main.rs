//! What a KV store saves and costs: `make bench-kv-store`. `benches/README.md` describes the measurements.

#[path = "../speed/checkpoint.rs"]
#[allow(dead_code)] // The other benchmark writes Llamas, too.
mod checkpoint;
#[path = "../speed/child.rs"]
mod child;
#[path = "../speed/long_context.rs"]
mod long_context;
mod measure;
#[path = "../speed/shape.rs"]
#[allow(dead_code)] // The other benchmark measures more shapes and dtypes.
mod shape;

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use child::child;
use clap::Parser;
use colm_checkpoint::Architecture;
use colm_testing::statistics::median;
use colm_testing::table::Table;
use long_context::{write_model, CONTEXT};
use measure::{Measurement, Values, Work};

/// Measures the time to the first token of a long prompt: computed, from the prefix cache in memory, from a KV store, and
/// computed by another process that holds the first chain alone.
#[derive(Parser)]
#[command(name = "make bench-kv-store ARGS=")]
struct Args {
    /// Tokens of the long prompt.
    #[arg(long, default_value_t = 8192)]
    prompt: usize,
    /// Answers that run beside it.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// Number of rounds. Figures are medians over the rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Models: `dense` (one chain), `colm` or `air` (4 equal chains, at k = 4).
    #[arg(long, value_delimiter = ',', default_value = "dense,colm,air")]
    models: Vec<String>,
    /// A Redis to measure as well, such as `redis://127.0.0.1:6379`. It should be empty.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// The folder for CSV files [default: bench/ in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// One measurement, as JSON: the benchmark starts a process for each.
    #[arg(long, hide = true)]
    measure: Option<String>,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match &args.measure {
        Some(measurement) => measure::run(&serde_json::from_str(measurement)?),
        None => bench(&args),
    }
}

/// The architecture and the chains of the model `name`.
fn model(name: &str) -> Result<(Architecture, Vec<usize>)> {
    match name {
        "dense" => Ok((Architecture::Colm, vec![1])),
        "colm" => Ok((Architecture::Colm, vec![1; 4])),
        "air" => Ok((Architecture::ColmAir, vec![1; 4])),
        _ => bail!("--models {name}: expected dense, colm or air"),
    }
}

fn bench(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut raw = Table::new(["model", "round", "what", "value", "unit"]);
    let mut medians = Table::new(["model", "what", "median", "unit", "/ computed"]);
    for name in &args.models {
        let model = folder.path().join(name);
        let (architecture, chains) = self::model(name)?;
        write_model(&model, architecture, &chains, measure::LAYERS)?;
        let mut rounds: Vec<Vec<(String, f64, String)>> = Vec::new();
        for round in 1..=args.rounds {
            eprintln!("{name}: round {round} of {}", args.rounds);
            let found = measure_once(args, &model, &folder.path().join(format!("{name}-{round}")))?;
            for (what, value, unit) in &found {
                let row = [name, &round.to_string(), what, &format!("{value:.3}"), unit];
                raw.push(row.map(String::from).to_vec());
            }
            rounds.push(found);
        }
        add_medians(&mut medians, name, &rounds)?;
    }
    println!("{medians}");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let folder = args.save.clone().unwrap_or(target);
    std::fs::create_dir_all(&folder)?;
    medians.save(&folder.join("kv-store.csv"))?;
    raw.save(&folder.join("values-kv-store.csv"))?;
    println!("CSV files: {}", folder.display());
    Ok(())
}

fn add_medians(
    table: &mut Table,
    model: &str,
    rounds: &[Vec<(String, f64, String)>],
) -> Result<()> {
    let values = |index: usize| rounds.iter().map(move |round| round[index].1).collect::<Vec<_>>();
    let first = rounds.first().context("no rounds")?;
    let computed = median(&values(0)).context("no rounds")?;
    for (index, (what, _, unit)) in first.iter().enumerate() {
        let value = median(&values(index)).context("no rounds")?;
        let ratio = if what.starts_with("first token") {
            format!("{:.3}", value / computed)
        } else {
            String::new()
        };
        let row = [model, what, &format!("{value:.1}"), unit, &ratio];
        table.push(row.map(String::from).to_vec());
    }
    Ok(())
}

/// All values of one model, each kind in a process of its own, so that nothing but the store passes between them.
fn measure_once(args: &Args, model: &Path, store: &Path) -> Result<Values> {
    let run = |store: Option<String>, work| {
        let (model, prompt) = (model.to_owned(), args.prompt);
        child::<Values>(&Measurement { model, store, prompt, context: CONTEXT, work })
    };
    let file = format!("file://{}", store.join("blocks").display());
    let mut values = run(None, Work::Computed)?;
    values.extend(run(Some(file.clone()), Work::Fill)?);
    values.extend(run(Some(file), Work::Read { from: "file".into() })?);
    if let Some(redis) = &args.redis {
        run(Some(redis.clone()), Work::Fill)?;
        values.extend(run(Some(redis.clone()), Work::Read { from: "Redis".into() })?);
    }
    let other = format!("file://{}", store.join("prefilled").display());
    values.extend(run(None, Work::Beside { streams: args.streams })?);
    values.extend(run(Some(other), Work::Prefilled { streams: args.streams })?);
    let misses = format!("file://{}", store.join("misses").display());
    values.extend(run(Some(misses), Work::Overhead)?);
    Ok(values)
}
