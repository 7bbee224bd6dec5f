//! What a long prompt costs the answers that run beside it, at several chunk sizes: `make bench-long-prompt`.
//! `benches/README.md` describes the measurements.

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

/// Measures the gaps between the tokens of running answers while a long prompt is computed, the time to the first token
/// of that prompt, and peak memory, on models of the shape `small` with random f32 weights.
#[derive(Parser)]
#[command(name = "make bench-long-prompt ARGS=")]
struct Args {
    /// Chunk sizes in tokens. The length of the prompt stands for no chunks.
    #[arg(long, value_delimiter = ',', default_value = "128,256,512,1024,8192")]
    chunks: Vec<usize>,
    /// Tokens of the long prompt.
    #[arg(long, default_value_t = 8192)]
    prompt: usize,
    /// Answers that run beside it.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// Number of rounds. Figures are medians over the rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Models: `dense` (one chain) or `air` (4 equal chains, at k = 4).
    #[arg(long, value_delimiter = ',', default_value = "dense,air")]
    models: Vec<String>,
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
        "air" => Ok((Architecture::ColmAir, vec![1; 4])),
        _ => bail!("--models {name}: expected dense or air"),
    }
}

fn bench(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut raw = Table::new(["model", "chunk", "round", "what", "value", "unit"]);
    let mut medians = Table::new(header());
    for name in &args.models {
        let model = folder.path().join(name);
        let (architecture, chains) = self::model(name)?;
        write_model(&model, architecture, &chains, 8)?;
        let mut values: Vec<Vec<Values>> = vec![Vec::new(); args.chunks.len()];
        // The chunk sizes take turns in every round.
        for round in 1..=args.rounds {
            for (chunk, values) in args.chunks.iter().zip(&mut values) {
                eprintln!("{name}: round {round} of {}, chunks of {chunk}", args.rounds);
                let found = measure_once(args, &model, *chunk)?;
                for (what, value, unit) in found.rows() {
                    raw.push(vec![
                        name.clone(),
                        chunk.to_string(),
                        round.to_string(),
                        what.into(),
                        format!("{value:.3}"),
                        unit.into(),
                    ]);
                }
                values.push(found);
            }
        }
        let whole = values.last().context("no chunk sizes")?;
        let whole_alone = median_of(whole, |values| values.alone_ms);
        for (chunk, values) in args.chunks.iter().zip(&values) {
            medians.push(row(name, *chunk, values, whole_alone));
        }
    }
    println!("{medians}");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let folder = args.save.clone().unwrap_or(target);
    std::fs::create_dir_all(&folder)?;
    medians.save(&folder.join("long-prompt.csv"))?;
    raw.save(&folder.join("values-long-prompt.csv"))?;
    println!("CSV files: {}", folder.display());
    Ok(())
}

/// All values of one model and chunk size, each kind in a process of its own.
fn measure_once(args: &Args, model: &Path, chunk: usize) -> Result<Values> {
    let run = |work: Work| {
        let measurement = Measurement { model: model.to_owned(), chunk, context: CONTEXT, work };
        child::<Values>(&measurement)
    };
    let mut values = run(Work::Gaps { prompt: args.prompt, streams: args.streams })?;
    values.peak_short_mib = run(Work::Memory { prompt: args.prompt / 8 })?.peak_mib;
    values.peak_mib = run(Work::Memory { prompt: args.prompt })?.peak_mib;
    Ok(values)
}

fn header() -> [&'static str; 13] {
    [
        "model",
        "chunk",
        "prompt alone ms",
        "/ whole",
        "last chunk ms",
        "gap alone p50 ms",
        "gap p50 ms",
        "gap p99 ms",
        "gap max ms",
        "max / (chunk + step)",
        "prompt beside ms",
        "peak MiB, prompt / 8",
        "peak MiB",
    ]
}

fn row(name: &str, chunk: usize, values: &[Values], whole_alone: f64) -> Vec<String> {
    let of = |value: fn(&Values) -> f64| median_of(values, value);
    let alone = of(|values| values.alone_ms);
    let bound = of(|values| values.chunk_ms) + of(|values| values.gap_alone_ms);
    let gap_max = of(|values| values.gap_max_ms);
    let mut row = vec![name.to_string(), chunk.to_string()];
    row.push(format!("{alone:.0}"));
    row.push(format!("{:.2}", alone / whole_alone));
    row.push(format!("{:.1}", of(|values| values.chunk_ms)));
    row.push(format!("{:.1}", of(|values| values.gap_alone_ms)));
    row.push(format!("{:.1}", of(|values| values.gap_p50_ms)));
    row.push(format!("{:.1}", of(|values| values.gap_p99_ms)));
    row.push(format!("{gap_max:.1}"));
    row.push(format!("{:.2}", gap_max / bound));
    row.push(format!("{:.0}", of(|values| values.beside_ms)));
    row.push(format!("{:.0}", of(|values| values.peak_short_mib)));
    row.push(format!("{:.0}", of(|values| values.peak_mib)));
    row
}

fn median_of(values: &[Values], value: impl Fn(&Values) -> f64) -> f64 {
    median(&values.iter().map(value).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}
