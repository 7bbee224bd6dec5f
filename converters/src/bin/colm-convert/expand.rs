//! `colm-convert expand`

use anyhow::Result;
use clap::{Args, ValueEnum};
use colm_checkpoint::convert::{self, Init};
use colm_checkpoint::{Architecture, Chains, ColmConfig, Layout, Source};

use crate::destination::Destination;
use crate::extract::LayoutName;
use crate::output::say;

/// Progressive scaling: SRC becomes the first chain(s) of a larger CoLM, bit for bit.
///
/// --chains gives the ratios of the whole new model, those of SRC first: a Llama of hidden size 2048
/// with --chains 32,8 becomes a CoLM of hidden size 2048 + 512. Heads, key/value heads and the
/// intermediate size grow likewise; with --air key/value heads stay as they are, shared by all chains.
///
/// With --init zero (the default) the logits at every k equal those of SRC until the model is trained:
/// the new chains' part of the head is zero, nothing else.
///
/// Examples:
///   colm-convert expand TinyLlama-1.1B colm-1.4b --chains 32,8 --air
///   colm-convert expand colm-1.4b colm-1.7b --chains 32,8,8
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Expand {
    #[command(flatten)]
    destination: Destination,
    /// The relative sizes of all chains, those of SRC first.
    #[arg(long, value_name = "C1,C2,..", value_delimiter = ',', required = true)]
    chains: Vec<usize>,
    /// CoLM-Air: the new chains read the keys and values of the first. A model of several
    /// chains stays what it is.
    #[arg(long)]
    air: bool,
    /// How the new chains begin.
    #[arg(long, value_enum, default_value_t = InitName::Zero)]
    init: InitName,
    /// Of the new chains' random weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The layout to write.
    #[arg(long, value_enum, default_value_t = LayoutName::Chains)]
    layout: LayoutName,
    /// Print the config of the larger model and write nothing; SRC needs no weights.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum InitName {
    /// The larger model computes what SRC does.
    Zero,
    /// All new matrices are random.
    Normal,
}

impl Expand {
    pub fn run(self) -> Result<()> {
        let chains = Chains::new(self.chains.clone())?;
        if self.dry_run {
            let (base, _) = Source::read_config(self.destination.src())?;
            return print(&convert::expanded_config(&base, &chains, self.architecture(&base))?);
        }
        let source = self.destination.open_source()?;
        let init = match self.init {
            InitName::Zero => Init::Zero,
            InitName::Normal => Init::Normal,
        };
        let architecture = self.architecture(source.config());
        let layout = Layout::from(self.layout);
        let plan = convert::expand(&source, &chains, architecture, init, self.seed, layout)?;
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
    say(serde_json::to_string_pretty(&config.file)?)?;
    let count = config.chains.count();
    for k in config.chains.counts() {
        say(format!("{k} of {count} chains: {} parameters", config.parameters(k)))?;
    }
    Ok(())
}
