//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::shape::{Setting, Shape, Weights};

/// How fast colm is against the host's own Llama and llama.cpp, with random weights.
///
/// Contenders take turns in every round; figures are medians over the rounds. Ratios of the same
/// run end in a table of floors and goals.
#[derive(Parser)]
#[command(name = "make bench ARGS=")]
pub struct Args {
    /// Shapes, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "small,large")]
    shape: Vec<Shape>,
    /// How weights are held [default: f32, q8_0 and q4k for small; bf16, q8_0 and q4k for large].
    #[arg(long, value_delimiter = ',')]
    weights: Vec<Weights>,
    /// Only contenders whose name contains this, such as 'Air [1,1]'; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_value = "load,single,together")]
    pub measure: Vec<Part>,
    /// Prompt lengths in tokens, one request at a time.
    #[arg(long, value_delimiter = ',', default_value = "512,1024,2048,4096")]
    pub prompts: Vec<usize>,
    /// Tokens decoded after each prompt, from the second on.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub decode: u16,
    /// How many requests of unequal length come at once.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    pub together: Vec<usize>,
    /// Rounds; figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// What has taken a contender longer than this is not repeated in later rounds.
    #[arg(long, value_name = "SECONDS")]
    pub patience: Option<f64>,
    /// Where CSV and SVG files go [default: bench/ in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What a round consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Load time, and peak memory of a process that loads k chains and answers once.
    Load,
    /// One request at a time: prefill and decode.
    Single,
    /// Several requests at once.
    Together,
}

#[derive(Subcommand)]
pub enum Command {
    /// The process of one contender; tasks come on standard input.
    #[command(hide = true)]
    Worker,
}

impl Args {
    /// One after the other.
    pub fn settings(&self) -> Vec<Setting> {
        let of_shape = |&shape: &Shape| {
            let weights = match self.weights.is_empty() {
                true => shape.default_weights(),
                false => self.weights.clone(),
            };
            weights.into_iter().map(move |weights| Setting { shape, weights })
        };
        self.shape.iter().flat_map(of_shape).collect()
    }

    /// Whether the contender of this name takes part.
    pub fn takes_part(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }

    /// Where files go.
    pub fn folder(&self) -> PathBuf {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        self.save.clone().unwrap_or_else(|| target.with_file_name("bench"))
    }
}
