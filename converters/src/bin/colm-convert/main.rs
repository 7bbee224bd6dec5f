//! `colm-convert`: checkpoints from dense to chains and back, from Llama to CoLM, from a big model
//! to the small one inside it.

mod cast;
mod destination;
mod dtype;
mod expand;
mod extract;
mod inspect;
mod output;
mod pack;
mod progress;
mod units;
mod unpack;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{show, tell};

/// Converts checkpoints of Chain-of-Language-Models (CoLM and CoLM-Air).
///
/// SRC and DST are folders with config.json and weights. SRC may be a CoLM in either layout, or a Llama,
/// Mistral or Qwen2 model, which is a CoLM of one chain; its weights may be safetensors or PyTorch
/// files. DST appears when it is complete, with the tokenizer files of SRC beside the weights. SRC is never
/// changed. Until it is complete DST is DST.partial-PID-N; what runs that were killed leave of it, the next run to
/// DST removes. Exit status: 0 done, 1 refused or failed, 2 wrong usage.
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
        Err(refused) if refused.use_stderr() => refused.exit(),
        Err(help) => show(&help).map_err(anyhow::Error::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line per cause.
fn report(error: &anyhow::Error) {
    let mut last = error.to_string();
    tell(format!("colm-convert: error: {last}"));
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors end with their cause, or with how it begins.
        let begin: String = cause.chars().take(100).collect();
        if !last.contains(&begin) {
            tell(format!("  because: {}", colm_checkpoint::abbreviate(&cause)));
            last = cause;
        }
    }
}
