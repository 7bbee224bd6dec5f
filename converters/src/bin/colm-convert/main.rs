//! `colm-convert`: checkpoints from dense to chains and back, from Llama to CoLM, from a big model
//! to the small one inside it.

mod cast;
mod destination;
mod dtype;
mod expand;
mod extract;
mod inspect;
mod pack;
mod progress;
mod units;
mod unpack;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Converts checkpoints of Chain-of-Language-Models (CoLM and CoLM-Air).
///
/// SRC and DST are folders with config.json and weights. SRC may be a CoLM in either layout, or a Llama,
/// Mistral or Qwen2 model, which is a CoLM of one chain; its weights may be safetensors or PyTorch
/// files. DST appears when it is complete, with the tokenizer files of SRC beside the weights. SRC is never
/// changed. Exit status: 0 done, 1 refused or failed, 2 wrong usage.
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

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Inspect(inspect) => inspect.run(),
        Command::Verify(verify) => verify.run(),
        Command::Pack(pack) => pack.run(),
        Command::Unpack(unpack) => unpack.run(),
        Command::Extract(extract) => extract.run(),
        Command::Expand(expand) => expand.run(),
        Command::Cast(cast) => cast.run(),
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
    eprintln!("colm-convert: error: {last}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors end with their cause.
        if !last.contains(&cause) {
            eprintln!("  because: {cause}");
            last = cause;
        }
    }
}
