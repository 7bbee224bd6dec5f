//! A soak test of `colm serve`: many clients for many minutes, with prompts of random lengths, streams that are read to
//! the end and clients that leave. It fails if the memory of the server keeps growing, or if a request is not answered
//! as it should: `make soak`.

mod client;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use clap::Parser;
use client::{Client, Outcome};
use colm_testing::process_memory::resident_mib_of;
use colm_testing::random_model;
use colm_testing::server_process::ServerProcess;
use colm_testing::statistics::median;
use colm_testing::table::Table;

/// Runs a server with a small random model and clients that ask, read, cancel and disconnect.
#[derive(Parser)]
#[command(name = "make soak ARGS=")]
struct Args {
    /// How long the clients ask.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Clients, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// The folder for a CSV file with the memory over time [default: bench/ in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The last quarter may take this much more memory than the second.
const MOST_GROWTH: f64 = 1.05;

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = random_model::folder(&random_model::with(random_model::air(), |json| {
        json["max_position_embeddings"] = 8192.into();
    }));
    let mut server = serve(&folder.path().join("model"))?;
    let end = Instant::now() + Duration::from_secs_f64(60.0 * args.minutes);
    let counts = Arc::new(Counts::default());
    let clients = (0..args.clients).map(|index| {
        let (address, counts) = (server.address().to_string(), counts.clone());
        thread::spawn(move || -> Result<()> {
            let mut client = Client::new(address, index as u64);
            while Instant::now() < end {
                counts.add(client.ask()?);
            }
            Ok(())
        })
    });
    let clients: Vec<_> = clients.collect();
    let memory = memory_until(end, &mut server)?;
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client has panicked"))??;
    }
    println!("{counts}");
    save(&args, &memory)?;
    let quarter = |index: usize| {
        let part = &memory[index * memory.len() / 4..(index + 1) * memory.len() / 4];
        let mib: Vec<f64> = part.iter().map(|sample| sample.mib).collect();
        median(&mib).context("too few samples: the run was too short")
    };
    let (second, last) = (quarter(1)?, quarter(3)?);
    println!("resident memory: {second:.1} MiB in the second quarter, {last:.1} MiB in the last");
    ensure!(last <= MOST_GROWTH * second, "the memory of the server keeps growing");
    Ok(())
}

fn save(args: &Args, memory: &[Sample]) -> Result<()> {
    let mut table = Table::new(["seconds", "resident MiB"]);
    for sample in memory {
        table.push(vec![format!("{:.1}", sample.seconds), format!("{:.1}", sample.mib)]);
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let folder = args.save.clone().unwrap_or(target);
    std::fs::create_dir_all(&folder)?;
    table.save(&folder.join("soak.csv"))
}

/// Resident memory of the server at a time.
struct Sample {
    seconds: f64,
    mib: f64,
}

/// `colm serve` with `model`.
fn serve(model: &Path) -> Result<ServerProcess> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colm"));
    ServerProcess::start(command.args(["serve", "--kv-cache-mb", "32", "-p", "0", "-m"]).arg(model))
}

/// The resident memory of `server`, every second.
fn memory_until(end: Instant, server: &mut ServerProcess) -> Result<Vec<Sample>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while Instant::now() < end {
        server.check()?;
        let mib = resident_mib_of(server.id())?;
        samples.push(Sample { seconds: began.elapsed().as_secs_f64(), mib });
        thread::sleep(Duration::from_secs(1));
    }
    Ok(samples)
}

/// How the requests have ended.
#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    streamed: AtomicUsize,
    left: AtomicUsize,
}

impl Counts {
    fn add(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Streamed => &self.streamed,
            Outcome::Left => &self.left,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [answered, streamed, left] =
            [&self.answered, &self.streamed, &self.left].map(|count| count.load(Ordering::Relaxed));
        write!(f, "{answered} answers, {streamed} streams, {left} clients that left")
    }
}
