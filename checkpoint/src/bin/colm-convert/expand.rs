//! `colm-convert expand`

use anyhow::Result;
use clap::{Args, ValueEnum};
use colm_checkpoint::convert::{self, Init};
use colm_checkpoint::{inspect, Architecture, ColmConfig, Layout, Source};

use crate::destination::Destination;
use crate::extract::LayoutName;
use crate::growth::{with_flag, GrowthArgs};
use crate::numbers::seed;
use crate::output::print_line;
use crate::table;
use crate::with_python::WithPython;

const EXAMPLES: &str = "\
Examples:
  colm-convert expand Qwen2.5-0.5B qwen-air --add 10% --air --dry-run
  colm-convert expand Qwen2.5-0.5B qwen-air --add hidden=128,heads=2,intermediate=512 --air
  colm-convert expand TinyLlama-1.1B colm-1.4b --chains 32,8 --air
  colm-convert expand colm-1.4b colm-1.7b --chains 32,8,8";

/// Make SRC the first chains of a larger CoLM, bit for bit (chain expansion).
///
/// --add gives one more chain, by its widths or by its size: --add 10% adds a chain of about a tenth of
/// SRC's parameters, in about the proportions of SRC, with widths that suit the kernels and the quantized
/// types. --chains gives the relative sizes of all chains instead, beginning with those of SRC: a Llama of
/// hidden size 2048 with --chains 32,8 becomes a CoLM of hidden size 2048 + 512, and heads, key/value heads
/// and the intermediate size grow in proportion. With --air all chains share the key/value heads of SRC,
/// whose number does not change.
///
/// With --init zero (the default) the logits at every k equal those of SRC until the model is trained.
/// Only the new chains' columns of the LM head are zero.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Expand {
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    growth: GrowthArgs,
    /// Make a CoLM-Air: the new chains read the keys and values of the first. The architecture of a
    /// model of several chains cannot change.
    #[arg(long)]
    air: bool,
    /// How the new chains are initialized.
    #[arg(long, value_enum, default_value_t = InitName::Zero, allow_negative_numbers = true)]
    init: InitName,
    /// The seed of the new chains' random weights.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = seed,
        allow_negative_numbers = true
    )]
    seed: u64,
    /// The layout to write.
    #[arg(long, value_enum, default_value_t = LayoutName::Chains, allow_negative_numbers = true)]
    layout: LayoutName,
    /// Print the config of the larger model and what every chain count costs, and write nothing; SRC
    /// needs no weights.
    #[arg(long, conflicts_with = "with_python")]
    dry_run: bool,
    #[command(flatten)]
    python: WithPython,
}

#[derive(Clone, Copy, ValueEnum)]
enum InitName {
    /// The logits equal those of SRC.
    Zero,
    /// All new matrices are random, norms are 1 and biases 0.
    Normal,
}

impl Expand {
    pub fn run(self) -> Result<()> {
        if self.dry_run {
            let (base, _) = Source::read_config(self.destination.src())?;
            let architecture = self.architecture(&base);
            let growth = self.growth.growth(&base, architecture)?;
            let config = convert::expanded_config(&base, &growth, architecture);
            return print(&config.map_err(with_flag)?);
        }
        let source = self.destination.open_source()?;
        let init = match self.init {
            InitName::Zero => Init::Zero,
            InitName::Normal => Init::Normal,
        };
        let architecture = self.architecture(source.config());
        let layout = Layout::from(self.layout);
        let growth = self.growth.growth(source.config(), architecture)?;
        let plan = convert::expand(&source, &growth, architecture, init, self.seed, layout);
        let plan = self.python.added_to(plan.map_err(with_flag)?)?;
        self.destination.prepare(&source, &plan)?;
        source.check_zero_submatrices()?;
        self.destination.write(&source, &plan)
    }

    fn architecture(&self, base: &ColmConfig) -> Architecture {
        if self.air {
            Architecture::ColmAir
        } else {
            base.architecture
        }
    }
}

fn print(config: &ColmConfig) -> Result<()> {
    print_line(serde_json::to_string_pretty(&config.file)?)?;
    print_line(format!("\n{}\n", table::widths(&inspect::widths(config))))?;
    Ok(print_line(table::costs(&inspect::planned_costs(config)))?)
}
