//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use colm::MatmulPrecision;

use super::shape::{Setting, Shape, Weights};

/// Measures the speed of colm, llama.cpp and mistral.rs's own Llama on models with random weights.
///
/// The contenders take turns in every round. Figures are medians over the rounds, and ratios compare figures of
/// the same run.
#[derive(Parser)]
#[command(name = "make bench ARGS=")]
pub struct Args {
    /// Model shapes, measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "small,large")]
    shape: Vec<Shape>,
    /// Dtypes of the weights in memory [default: f32, q8_0 and q4k for small; bf16, q8_0 and q4k for the others].
    #[arg(long, value_delimiter = ',')]
    weights: Vec<Weights>,
    /// The precision of activations in colm; the other engines choose their own [default: f32].
    #[arg(long, value_name = "PRECISION")]
    pub matmul_precision: Option<MatmulPrecision>,
    /// Measure only contenders whose name contains this, such as 'Air [1,1]'; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Which measurements to run.
    #[arg(long, value_delimiter = ',', default_value = "load,single,concurrent")]
    pub measure: Vec<Part>,
    /// Prompt lengths in tokens, one request at a time.
    #[arg(long, value_delimiter = ',', default_value = "512,1024,2048,4096")]
    pub prompts: Vec<usize>,
    /// Tokens decoded after each prompt, not counting the first.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub decode: u16,
    /// Numbers of requests of unequal length that are sent at once.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    pub concurrent: Vec<usize>,
    /// Number of rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Do not repeat a measurement in later rounds once it has taken a contender longer than this.
    #[arg(long, value_name = "SECONDS")]
    pub patience: Option<f64>,
    /// The folder for CSV and SVG files [default: bench/ in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The measurements of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Load time, and peak memory of a process that loads k chains and answers one request.
    Load,
    /// One request at a time: prefill and decode.
    Single,
    /// Several requests at once.
    Concurrent,
}

#[derive(Subcommand)]
pub enum Command {
    /// The worker process of one contender; reads batches of requests from standard input.
    #[command(hide = true)]
    Worker,
}

impl Args {
    /// All combinations of shape and weights to measure.
    pub fn settings(&self) -> Vec<Setting> {
        let of_shape = |&shape: &Shape| {
            let weights = if self.weights.is_empty() {
                shape.default_weights()
            } else {
                self.weights.clone()
            };
            weights.into_iter().map(move |weights| Setting { shape, weights })
        };
        self.shape.iter().flat_map(of_shape).collect()
    }

    /// Whether `--only` selects the contender of this name.
    pub fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }

    /// The folder for CSV and SVG files.
    pub fn folder(&self) -> PathBuf {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        self.save.clone().unwrap_or_else(|| target.with_file_name("bench"))
    }
}
