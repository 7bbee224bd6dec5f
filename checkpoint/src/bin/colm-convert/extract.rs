//! `colm-convert extract`

use anyhow::{anyhow, bail, Result};
use clap::{Args, ValueEnum};
use colm_checkpoint::{convert, Layout};

use crate::destination::Destination;
use crate::numbers::chain_count;
use crate::with_python::WithPython;

const EXAMPLES: &str = "\
Examples:
  colm-convert extract colm-1b colm-small --chains 2
  colm-convert extract colm-1b llama --chains 1 --as llama";

/// Write the model at k chains as a checkpoint of its own.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Extract {
    #[command(flatten)]
    destination: Destination,
    /// The chain count of DST: its chains are the first K of SRC.
    #[arg(long, value_name = "K", value_parser = chain_count, allow_negative_numbers = true)]
    chains: usize,
    /// The layout to write; that of SRC by default.
    #[arg(long, allow_negative_numbers = true)]
    layout: Option<LayoutName>,
    /// With --chains 1: write a plain LlamaForCausalLM, which other programs can load.
    #[arg(
        long = "as",
        value_name = "KIND",
        conflicts_with_all = ["layout", "with_python"],
        allow_negative_numbers = true
    )]
    kind: Option<Kind>,
    #[command(flatten)]
    python: WithPython,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Llama,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LayoutName {
    Chains,
    Dense,
}

impl From<LayoutName> for Layout {
    fn from(name: LayoutName) -> Self {
        match name {
            LayoutName::Chains => Self::Chains,
            LayoutName::Dense => Self::Dense,
        }
    }
}

impl Extract {
    pub fn run(self) -> Result<()> {
        let source = self.destination.open_chains(self.chains)?;
        let plan = match self.kind {
            Some(Kind::Llama) if self.chains == 1 => convert::as_llama(&source)?,
            Some(Kind::Llama) => {
                bail!("--as llama: only one chain is a Llama, expected --chains 1")
            }
            None => {
                let layout = self.layout.map_or(source.layout(), Layout::from);
                let k = source.config().chain_count(self.chains);
                let k = k.map_err(|error| anyhow!("--{error}"))?;
                convert::extract(&source, k, layout)?
            }
        };
        let plan = self.python.added_to(plan)?;
        self.destination.prepare(&source, &plan)?;
        source.check_zero_submatrices()?;
        self.destination.write(&source, &plan)
    }
}
