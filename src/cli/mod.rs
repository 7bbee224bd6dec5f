//! The command line. Results are written to stdout, everything else to stderr.

mod bench;
mod chain_list;
mod conversation;
mod doctor;
mod flags;
mod greeting;
mod kv_store;
mod lines;
mod load;
mod model_card;
mod nll;
pub mod output;
mod parsers;
mod perplexity;
mod process;
mod progress;
mod run;
mod serve;
mod settings;
mod slash;
mod speed;
mod variables;
mod windows;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use output::{print_stderr, stdout_error, Stdout};
use serve::LogFormat;

/// Chain-of-Language-Models (CoLM, CoLM-Air): one checkpoint, n models of growing size.
///
/// A checkpoint of n chains answers at every chain count k from 1 to n: fewer chains are faster, more are more
/// accurate. It is loaded once, and each request chooses its k.
#[derive(Parser)]
#[command(name = "colm", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  colm run -m models/tiny-colm-air                        chat; /chains 2 switches to 2 chains
  colm run -m models/tiny-colm-air --chains 1 -i 'Hi'     one answer
  colm serve -m models/tiny-colm-air -p 1234              serve the OpenAI API, models NAME and NAME@k
  colm perplexity -m models/tiny-colm-air -f text.txt     measure the perplexity at each chain count
  colm bench -m models/tiny-colm-air -p 512 -n 128        measure the speed of each chain count
  colm doctor -m models/tiny-colm-air                     check the machine, and whether a model fits
  colm kv-store stat file:///var/cache/colm/kv            inspect and maintain a KV store";

/// The commands. Their help texts are the doc comments of their arguments.
#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Serve(Box<serve::ServeArgs>),
    Perplexity(perplexity::PerplexityArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    KvStore(kv_store::KvStoreCommand),
}

impl Command {
    fn verbose(&self) -> bool {
        match self {
            Self::Run(args) => args.load.verbose,
            Self::Serve(args) => args.load.verbose,
            Self::Perplexity(args) => args.load.verbose,
            Self::Bench(args) => args.load.verbose,
            Self::Doctor(_) | Self::KvStore(_) => false,
        }
    }
}

/// Parses the arguments of the process and runs the command.
pub fn run() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let file = settings::config_file(&arguments);
    let cli = variables::with_variables(Cli::command());
    let given = arguments.clone();
    let arguments = match &file {
        Some(file) => settings::with_settings(&cli, file, arguments)?,
        None => arguments,
    };
    let file = file.filter(|_| arguments.len() > given.len());
    let parsed = cli.clone().try_get_matches_from(arguments);
    let command = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(Cli { command }) => command,
        Err(error) if error.use_stderr() => {
            exit_with(&error, variables::refused_variable(&cli, &error, &given), file.as_deref())
        }
        Err(help) => return print_help(&help),
    };
    log_to_stderr(&command);
    let runtime = process::runtime()?;
    let result = runtime.block_on(async {
        match command {
            Command::Run(args) => run::run(args).await,
            Command::Serve(args) => serve::run(*args).await,
            Command::Perplexity(args) => perplexity::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Doctor(args) => doctor::run(args).await,
            Command::KvStore(command) => kv_store::run(command).await,
        }
    });
    // Do not wait for computations that are still running.
    runtime.shutdown_background();
    result.map_err(|error| {
        match variables::blamed_variable(&cli, &output::error_message(&error), &given) {
            Some(variable) => error.context(format!("{variable} in the environment")),
            None => error,
        }
    })
}

/// Ends the process because its flags are wrong. The value may be that of the environment variable `variable`, and some
/// flags those of `file`.
fn exit_with(error: &clap::Error, variable: Option<String>, file: Option<&Path>) -> ! {
    let _ = error.print();
    if let Some(variable) = variable {
        print_stderr(format!("\nThe value is that of the environment variable {variable}."));
    } else if let Some(file) = file {
        print_stderr(format!("\nThe flags include those of --config {}.", file.display()));
    }
    std::process::exit(error.exit_code())
}

/// Prints the output of `--help` and `--version`.
fn print_help(help: &clap::Error) -> Result<()> {
    help.print().map_err(stdout_error)?;
    Ok(Stdout.flush()?)
}

/// Shows the lines of `--log-requests`.
const REQUEST_LINES: &str = "colm::requests=info";

/// Shows that the server starts and stops, in a log of JSON.
const STATUS_LINES: &str = "colm::server=info";

/// Sets up logging to stderr. Must run before the host sets up its own logging, which writes to stdout.
fn log_to_stderr(command: &Command) {
    let is_json = matches!(command, Command::Serve(args) if args.log_format == LogFormat::Json);
    let level = if command.verbose() { LevelFilter::INFO } else { LevelFilter::WARN };
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let filter = filter.from_env().unwrap_or_else(|error| {
        print_stderr(format!("RUST_LOG is ignored: {error}"));
        EnvFilter::default().add_directive(level.into())
    });
    let filter = match command {
        Command::Serve(args) => {
            let lines = [(args.log_requests, REQUEST_LINES), (is_json, STATUS_LINES)];
            let shown = lines.into_iter().filter(|(is_shown, _)| *is_shown);
            shown.fold(filter, |filter, (_, lines)| {
                filter.add_directive(lines.parse().expect("a directive"))
            })
        }
        _ => filter,
    };
    let colors = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Otherwise it would report to stderr that stderr cannot be written.
        .log_internal_errors(false)
        .with_ansi(colors);
    match command {
        Command::Serve(_) if is_json => log.json().with_span_list(false).init(),
        _ => log.init(),
    }
}
