//! `colm perplexity`: measures how well each chain count predicts a text.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use clap::Args;
use serde::Serialize;

use super::chain_list::parse_chain_list;
use super::load::LoadArgs;
use super::nll::Nll;
use super::output::{print_stderr, Stdout};
use super::parsers::at_least_1;
use super::progress::progress;
use super::windows::{windows, Window};

/// Measure how well each chain count predicts a text.
///
/// Print the mean negative log-likelihood in nats per token and its exponential, the perplexity. Every token except the
/// first is predicted from the tokens before it. The tokenizer adds its usual special tokens, such as a BOS token.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PerplexityArgs {
    /// Text file in UTF-8.
    #[arg(short, long)]
    file: PathBuf,
    /// Chain counts to measure, such as `1,2,4`, or `all`.
    #[arg(long, value_name = "LIST", default_value = "all")]
    chains: String,
    /// Score the whole file with a sliding window: each window is as long as the model's context, starts TOKENS later
    /// than the one before it, and scores only its new tokens. By default, only the first window is scored.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_1)]
    stride: Option<usize>,
    /// Print JSON: an array of objects with the keys `chains`, `tokens`, `nll` and `ppl`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub load: LoadArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm perplexity -m models/tiny-colm-air -f text.txt
  colm perplexity -m models/tiny-colm-air -f text.txt --chains 1,4 --stride 256 --json | jq .[].ppl";

/// The result at one chain count.
#[derive(Serialize)]
struct Score {
    chains: usize,
    tokens: usize,
    nll: f64,
    ppl: f64,
}

/// Scores the file at each chain count.
pub async fn run(args: PerplexityArgs) -> Result<()> {
    let text = read(&args.file)?;
    let engine = args.load.engine().await?;
    let counts = parse_chain_list(&args.chains, &engine).context("--chains")?;
    let tokens = engine.tokenize(&text).await?;
    let context = engine.max_tokens();
    let windows = windows(tokens.len(), context, args.stride)
        .with_context(|| args.file.display().to_string())?;
    if args.stride.is_none() && tokens.len() > context {
        let all = tokens.len();
        print_stderr(format!(
            "scoring the first {context} of {all} tokens; use --stride to score all of them"
        ));
    }
    let mut scores = Vec::with_capacity(counts.len());
    let bar = progress(counts.len() * windows.len());
    for k in counts {
        bar.set_message(format!("k = {k}"));
        let mut nll = Nll::default();
        for Window { tokens: seen, scored } in &windows {
            let logprobs = engine.score(tokens[seen.clone()].to_vec(), k).await?;
            // The first token of the window has no log-probability.
            nll.add(&logprobs[scored.start - seen.start - 1..]);
            bar.inc(1);
        }
        scores.push(Score {
            chains: k.get(),
            tokens: nll.tokens,
            nll: nll.mean(),
            ppl: nll.perplexity(),
        });
    }
    bar.finish_and_clear();
    print(&scores, args.json)
}

/// The largest text file, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

fn read(file: &Path) -> Result<String> {
    let unreadable = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(unreadable)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{} has more than {MAX_FILE_BYTES} bytes: expected a smaller file", file.display());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            bail!("{}: byte {at} is not valid UTF-8: expected a text file in UTF-8", file.display())
        }
    }
}

fn print(scores: &[Score], json: bool) -> Result<()> {
    if json {
        return Ok(writeln!(Stdout, "{}", serde_json::to_string(scores)?)?);
    }
    writeln!(
        Stdout,
        "{:>6}  {:>9}  {:>10}  {:>10}",
        "chains", "tokens", "nats/token", "perplexity"
    )?;
    for Score { chains, tokens, nll, ppl } in scores {
        writeln!(Stdout, "{chains:>6}  {tokens:>9}  {nll:>10.5}  {ppl:>10.3}")?;
    }
    Ok(())
}
