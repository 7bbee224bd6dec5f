//! `colm serve` under load, beside the server of llama-cpp-python: `make bench-load`. `benches/README.md` describes the
//! measurements.

#[path = "../speed/checkpoint.rs"]
#[allow(dead_code)] // The other benchmark writes Llamas, too.
mod checkpoint;
mod client;
mod contender;
mod load;
mod overhead;
#[path = "../speed/python.rs"]
mod python;
#[path = "../speed/shape.rs"]
#[allow(dead_code)] // The other benchmark measures more shapes and dtypes.
mod shape;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use client::Target;
use colm_testing::statistics::median;
use colm_testing::table::Table;
use contender::{llama_cpp_server, Contender, Models};
use load::{Figures, Load, Seen};
use rand::rngs::StdRng;
use rand::SeedableRng;

/// Measures requests per second, the time to the first token and the time per further token of streaming completions, on
/// models of the shape `small` with random f32 weights; and what a key, metrics and a log of all requests cost.
#[derive(Parser)]
#[command(name = "make bench-load ARGS=")]
struct Args {
    /// Numbers of clients, each with one request at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    clients: Vec<usize>,
    /// Requests of all clients together; each client sends at least one.
    #[arg(long, default_value_t = 16)]
    requests: usize,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Number of rounds, in which the contenders take turns; 0 measures the overhead only.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only contenders whose names begin like this: `llama.cpp`, `colm [1]`, `Air`. May be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Pairs of runs without and with key, metrics and log.
    #[arg(long, default_value_t = 20)]
    overhead_rounds: usize,
    /// Requests of 8 clients together in each of these runs.
    #[arg(long, default_value_t = 80)]
    overhead_requests: usize,
    /// The folder for CSV files [default: bench/ in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // One thread: the clients take as little as possible from the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bench(&args))
}

async fn bench(args: &Args) -> Result<()> {
    let contenders = contenders(args);
    let models = Models::write(&contenders)?;
    let mut random = StdRng::seed_from_u64(0);
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let folder = args.save.clone().unwrap_or(target);
    std::fs::create_dir_all(&folder)?;
    if args.rounds > 0 {
        let runs = rounds(args, &models, &contenders, &mut random).await?;
        values(&runs)?.save(&folder.join("values-load.csv"))?;
        let table = summary(&runs)?;
        println!("{}", table.markdown());
        table.save(&folder.join("load.csv"))?;
    }
    if args.overhead_rounds > 0 {
        let (requests, rounds) = (args.overhead_requests, args.overhead_rounds);
        let load = Load { clients: 8, requests, prompt: args.prompt };
        let table = overhead::measure(&models, load, args.tokens, rounds, &mut random).await?;
        table.save(&folder.join("load-overhead.csv"))?;
    }
    println!("CSV files: {}", folder.display());
    Ok(())
}

/// The contenders that were asked for and can run.
fn contenders(args: &Args) -> Vec<Contender> {
    let wanted = |name: &str| args.only.iter().any(|only| name.starts_with(only.as_str()));
    let mut contenders = Contender::ALL.to_vec();
    contenders.retain(|contender| args.only.is_empty() || wanted(&contender.name()));
    if contenders.contains(&Contender::LlamaCpp) {
        match llama_cpp_server() {
            Ok(version) => println!("{version}"),
            Err(error) => {
                println!("llama.cpp: {error:#}");
                contenders.retain(|contender| *contender != Contender::LlamaCpp);
            }
        }
    }
    contenders
}

/// One contender with a number of clients, in one round.
struct Run {
    contender: Contender,
    clients: usize,
    round: usize,
    seen: Seen,
}

/// Measures all contenders in every round, each in a process of its own.
async fn rounds(
    args: &Args,
    models: &Models,
    contenders: &[Contender],
    random: &mut StdRng,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 1..=args.rounds {
        for &contender in contenders {
            eprintln!("round {round} of {}: {}", args.rounds, contender.name());
            let server = models.start(contender, args.prompt + args.tokens)?;
            let target = Target {
                address: server.address().into(),
                model_id: contender.model_id(),
                api_key: None,
                tokens: args.tokens,
            };
            let load = |clients, requests| Load { clients, requests, prompt: args.prompt };
            load(1, 1).run(&target, random).await.context("the first request")?;
            for &clients in &args.clients {
                let seen = load(clients, args.requests).run(&target, random).await?;
                runs.push(Run { contender, clients, round, seen });
            }
        }
    }
    Ok(runs)
}

const FIGURES: [&str; 5] =
    ["requests/s", "first token p50 ms", "p99 ms", "per token p50 ms", "p99 ms"];

fn cells(requests_per_second: f64, figures: &Figures) -> [String; 5] {
    let Figures { first_p50_ms, first_p99_ms, token_p50_ms, token_p99_ms } = figures;
    [
        format!("{requests_per_second:.2}"),
        format!("{first_p50_ms:.0}"),
        format!("{first_p99_ms:.0}"),
        format!("{token_p50_ms:.1}"),
        format!("{token_p99_ms:.1}"),
    ]
}

/// The figures of every round.
fn values(runs: &[Run]) -> Result<Table> {
    let mut table = Table::new(["contender", "clients", "round"].into_iter().chain(FIGURES));
    for Run { contender, clients, round, seen } in runs {
        let figures = Figures::of(std::iter::once(seen)).context("no answers")?;
        let begin = [contender.name(), clients.to_string(), round.to_string()];
        let cells = cells(seen.requests_per_second(), &figures);
        table.push(begin.into_iter().chain(cells));
    }
    Ok(table)
}

/// Medians of requests per second over the rounds, and percentiles over the answers of all rounds.
fn summary(runs: &[Run]) -> Result<Table> {
    let mut table = Table::new(["contender", "clients"].into_iter().chain(FIGURES));
    for first in runs.iter().filter(|run| run.round == 1) {
        let alike = |run: &&Run| run.contender == first.contender && run.clients == first.clients;
        let same: Vec<&Seen> = runs.iter().filter(alike).map(|run| &run.seen).collect();
        let figures = Figures::of(same.iter().copied()).context("no answers")?;
        let rates: Vec<f64> = same.iter().map(|seen| seen.requests_per_second()).collect();
        let cells = cells(median(&rates).context("no rounds")?, &figures);
        let begin = [first.contender.name(), first.clients.to_string()];
        table.push(begin.into_iter().chain(cells));
    }
    Ok(table)
}
