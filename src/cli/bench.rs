//! `colm bench`: measures the prefill and decode speed at each chain count.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use clap::Args;
use colm::{ChainCount, Counts, Engine, Request};
use futures::future::try_join_all;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::chain_list::parse_chain_list;
use super::load::{at_least_1, DraftArgs, LoadArgs};
use super::output::Stdout;
use super::progress::progress;
use super::speed::per_second;

/// Measure the prefill and decode speed at each chain count.
///
/// Prompts are random tokens, different in each run, and the prefix cache is off. Prefill lasts until all prompts are
/// processed; then all requests decode together, one token per step. Speeds count the tokens of all concurrent
/// requests. Each speed is the median of several runs after a warm-up run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Prompt lengths in tokens, such as `512,2048`.
    #[arg(short, long = "prompt", value_name = "TOKENS", value_delimiter = ',', default_value = "512",
        value_parser = at_least_1)]
    prompts: Vec<usize>,
    /// Number of tokens to decode after each prompt; 0 measures prefill only.
    #[arg(short = 'n', long = "decode", value_name = "TOKENS", default_value_t = 128)]
    decode: u32,
    /// Number of concurrent requests.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = at_least_1)]
    concurrency: usize,
    /// Chain counts to measure, such as `1,2,4`, or `all`.
    #[arg(long, value_name = "LIST", default_value = "all", allow_negative_numbers = true)]
    chains: String,
    /// Number of runs to take the median of.
    #[arg(long, value_name = "N", default_value = "5", value_parser = at_least_1)]
    runs: usize,
    /// Print JSON: an array of objects with the keys `chains`, `prompt`, `decode`, `concurrency`, `runs`,
    /// `prefill_tok_s` and `decode_tok_s`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    draft: DraftArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm bench -m models/tiny-colm-air
  colm bench -m models/tiny-colm-air -p 512,2048 -n 128 --chains 1,4
  colm bench -m models/tiny-colm-air -p 128 -c 16 --json";

/// The result at one chain count and prompt length.
#[derive(Serialize)]
struct Row {
    chains: usize,
    prompt: usize,
    decode: usize,
    concurrency: usize,
    runs: usize,
    prefill_tok_s: Option<f64>,
    /// None if no tokens are decoded.
    decode_tok_s: Option<f64>,
}

/// The concurrent requests of one measurement.
struct Workload {
    chains: ChainCount,
    prompt: usize,
    decode: usize,
    concurrency: usize,
}

/// The times of one run.
struct Times {
    prefill: Duration,
    decode: Duration,
}

/// Measures every chain count at every prompt length and prints the results.
pub async fn run(args: BenchArgs) -> Result<()> {
    let builder = args.load.builder().max_drafts(args.draft.max_drafts);
    let builder = builder.prefix_cache(false).ignore_eos(true);
    let engine = builder.max_seqs(args.load.max_seqs.max(args.concurrency)).start().await?;
    let workloads = args.workloads(&engine)?;
    let bar = progress(workloads.len() * (args.runs + 1));
    let mut random = StdRng::seed_from_u64(0);
    let mut rows = Vec::with_capacity(workloads.len());
    for workload in &workloads {
        bar.set_message(format!("k = {}, prompt {}", workload.chains, workload.prompt));
        let mut times = Vec::new();
        for run in 0..=args.runs {
            let measured = workload.run(&engine, &mut random).await?;
            if run > 0 {
                times.push(measured);
            }
            bar.inc(1);
        }
        rows.push(workload.row(&times));
    }
    bar.finish_and_clear();
    print(&rows, args.json)
}

impl BenchArgs {
    /// The workloads to measure. Fails if one does not fit the KV cache or the context of the model.
    fn workloads(&self, engine: &Engine) -> Result<Vec<Workload>> {
        let (decode, concurrency) = (self.decode as usize, self.concurrency);
        let mut workloads = Vec::new();
        for chains in parse_chain_list(&self.chains, engine).context("--chains")? {
            for &prompt in &self.prompts {
                let workload = Workload { chains, prompt, decode, concurrency };
                let (tokens, limit) = (workload.tokens(), engine.max_tokens());
                if tokens > limit {
                    bail!(
                        "-p {prompt} -n {decode}: a sequence has {tokens} tokens: expected at most {limit}, \
                         the limit of the model's context or the KV cache"
                    );
                }
                workloads.push(workload);
            }
        }
        Ok(workloads)
    }
}

impl Workload {
    /// The final length of each sequence. The first new token is sampled from the prefill step, the others from decode
    /// steps.
    fn tokens(&self) -> usize {
        self.prompt + 1 + self.decode
    }

    /// Runs all requests with new prompts until they end.
    async fn run(&self, engine: &Engine, random: &mut StdRng) -> Result<Times> {
        let vocab = engine.config().file.vocab_size as u32;
        let prompts: Vec<Vec<u32>> = (0..self.concurrency)
            .map(|_| (0..self.prompt).map(|_| random.random_range(0..vocab)).collect())
            .collect();
        let (before, start) = (engine.counts(), Instant::now());
        let requests = prompts.into_iter().map(|prompt| {
            let request = Request::tokens(prompt).chains(self.chains);
            first_token(engine, request.max_tokens(self.decode + 1))
        });
        let first_tokens = try_join_all(requests).await?;
        let end = Instant::now();
        self.check(engine.counts().since(before))?;
        // The engine processes every prompt before it decodes.
        let prefilled = first_tokens.into_iter().max().unwrap_or(end);
        Ok(Times { prefill: prefilled - start, decode: end - prefilled })
    }

    /// Fails if the engine has computed tokens twice, which happens when the KV cache is full.
    fn check(&self, counts: Counts) -> Result<()> {
        let Counts { prompt, decoded, .. } = counts;
        let expected = (self.concurrency * self.prompt, self.concurrency * self.decode);
        if (prompt, decoded) != expected {
            bail!(
                "the engine computed {prompt} prompt and {decoded} decode tokens, expected {} and {}: \
                 increase --kv-cache-mb so that {} sequences of {} tokens fit",
                expected.0,
                expected.1,
                self.concurrency,
                self.tokens()
            );
        }
        Ok(())
    }

    fn row(&self, times: &[Times]) -> Row {
        let prefill = median(times.iter().map(|times| times.prefill).collect());
        let decode = median(times.iter().map(|times| times.decode).collect());
        Row {
            chains: self.chains.get(),
            prompt: self.prompt,
            decode: self.decode,
            concurrency: self.concurrency,
            runs: times.len(),
            prefill_tok_s: per_second(self.concurrency * self.prompt, prefill),
            decode_tok_s: per_second(self.concurrency * self.decode, decode),
        }
    }
}

/// Runs `request` to its end. Returns the time of the first token.
async fn first_token(engine: &Engine, request: Request) -> Result<Instant> {
    let mut answer = engine.stream(request).await?;
    while answer.try_next().await?.is_some() {}
    answer.first_sampled().context("the answer has no tokens")
}

/// The median: of an even number of times, the mean of the two in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}

fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        return Ok(writeln!(Stdout, "{}", serde_json::to_string(rows)?)?);
    }
    writeln!(Stdout, "chains  prompt  decode  concurrency  prefill tok/s  decode tok/s")?;
    for row in rows {
        let Row { chains, prompt, decode, concurrency, .. } = row;
        let (prefill_tok_s, decode_tok_s) = (cell(row.prefill_tok_s), cell(row.decode_tok_s));
        writeln!(
            Stdout,
            "{chains:>6}  {prompt:>6}  {decode:>6}  {concurrency:>11}  {prefill_tok_s:>13}  {decode_tok_s:>12}"
        )?;
    }
    Ok(())
}

fn cell(speed: Option<f64>) -> String {
    speed.map_or("-".into(), |speed| format!("{speed:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_a_mean() {
        let ms = Duration::from_millis;
        assert_eq!(median(vec![ms(30), ms(10), ms(20)]), ms(20));
        assert_eq!(median(vec![ms(40), ms(10), ms(20), ms(30)]), ms(25));
    }
}
