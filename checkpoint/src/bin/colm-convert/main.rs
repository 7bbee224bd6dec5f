//! `colm-convert`: checks checkpoints and converts them between layouts, between Llama and CoLM,
//! between dtypes and between chain counts.

mod cast;
mod destination;
mod dtype;
mod expand;
mod extract;
mod growth;
mod inspect;
mod numbers;
mod output;
mod pack;
mod progress;
mod table;
mod units;
mod unpack;
mod verify;
mod with_python;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{eprint_line, print_help};

/// Convert checkpoints of Chain-of-Language-Models (CoLM and CoLM-Air).
///
/// SRC and DST are folders with config.json and weights. SRC may be a CoLM in either layout; a CoLM in the
/// paper's own conventions, with params.json and the tensor names of TorchTitan and Meta; or a Llama,
/// Mistral, Qwen2 or Qwen3 model, which is a CoLM of one chain. Its weights may be safetensors or PyTorch files.
/// SRC is never changed. DST appears when it is complete, with copies of the tokenizer files, LICENSE and NOTICE of
/// SRC. pack and unpack also copy the model card of a CoLM, README.md. All other conversions make another model, and
/// write the card of SRC as SOURCE_README.md. Until DST is complete it is called DST.partial-PID-N; if a run is killed,
/// the next run with the same DST removes that folder. Exit code: 0 success, 1 failure, 2 wrong usage.
#[derive(Parser)]
#[command(name = "colm-convert", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Pack(pack::Pack),
    Unpack(unpack::Unpack),
    Extract(extract::Extract),
    Expand(expand::Expand),
    Cast(cast::Cast),
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(inspect) => inspect.run(),
            Self::Verify(verify) => verify.run(),
            Self::Pack(pack) => pack.run(),
            Self::Unpack(unpack) => unpack.run(),
            Self::Extract(extract) => extract.run(),
            Self::Expand(expand) => expand.run(),
            Self::Cast(cast) => cast.run(),
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(Cli { command }) => command.run(),
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => print_help(&help).map_err(anyhow::Error::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error, one line per cause.
fn report(error: &anyhow::Error) {
    let mut last = error.to_string();
    eprint_line(format!("colm-convert: error: {last}"));
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many messages already end with their cause, or with its beginning.
        let begin: String = cause.chars().take(100).collect();
        if !last.contains(&begin) {
            eprint_line(format!("  because: {}", colm_checkpoint::abbreviate(&cause)));
            last = cause;
        }
    }
}
