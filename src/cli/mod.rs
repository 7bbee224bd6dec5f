//! The command line, shaped like the host's own. Results go to stdout, everything else to stderr.

mod bench;
mod chain_list;
mod conversation;
mod flags;
mod lines;
mod load;
mod nll;
pub mod output;
mod perplexity;
mod process;
mod progress;
mod run;
mod serve;
mod slash;
mod speed;
mod windows;

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use output::{of_stdout, tell, Stdout};

/// Chain-of-Language-Models (CoLM, CoLM-Air): one checkpoint, n models of growing size.
///
/// A checkpoint of n chains answers at every chain count k from 1 to n: small k is fast, large k is
/// good. It is loaded once; k is chosen per request.
#[derive(Parser)]
#[command(name = "colm", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  colm run -m models/tiny-colm-air                        chat; /chains 2 switches
  colm run -m models/tiny-colm-air --chains 1 -i 'Once'   one answer
  colm serve -m models/tiny-colm-air -p 1234              the OpenAI API, models NAME and NAME@k
  colm perplexity -m models/tiny-colm-air -f text.txt     how good each chain count is
  colm bench -m models/tiny-colm-air -p 512 -n 128        how fast each chain count is";

/// Each described where its arguments are.
#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Serve(serve::ServeArgs),
    Perplexity(perplexity::PerplexityArgs),
    Bench(bench::BenchArgs),
}

impl Command {
    fn verbose(&self) -> bool {
        match self {
            Self::Run(args) => args.load.verbose,
            Self::Serve(args) => args.load.verbose,
            Self::Perplexity(args) => args.load.verbose,
            Self::Bench(args) => args.load.verbose,
        }
    }
}

/// Does what the arguments of this process ask for.
pub fn run() -> Result<()> {
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(refused) if refused.use_stderr() => refused.exit(),
        Err(help) => return show(&help),
    };
    log_to_stderr(command.verbose());
    let runtime = process::runtime()?;
    let done = runtime.block_on(async {
        match command {
            Command::Run(args) => run::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Perplexity(args) => perplexity::run(args).await,
            Command::Bench(args) => bench::run(args).await,
        }
    });
    // Nobody waits for what is still being computed.
    runtime.shutdown_background();
    done
}

/// What `--help` and `--version` ask for.
fn show(help: &clap::Error) -> Result<()> {
    help.print().map_err(of_stdout)?;
    Ok(Stdout.flush()?)
}

/// Before the host sets up its own logging, which writes to stdout.
fn log_to_stderr(verbose: bool) {
    let level = if verbose { LevelFilter::INFO } else { LevelFilter::WARN };
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let filter = filter.from_env().unwrap_or_else(|error| {
        tell(format!("RUST_LOG is ignored: {error}"));
        EnvFilter::default().add_directive(level.into())
    });
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would say on stderr, and insist, that stderr cannot be written.
        .log_internal_errors(false)
        .with_ansi(colours)
        .init();
}
