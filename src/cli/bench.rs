//! `colm bench`: how fast each chain count reads prompts and writes answers.

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
use super::load::{at_least_1, LoadArgs};
use super::output::Stdout;
use super::progress::progress;
use super::speed::per_second;

/// Measure how fast each chain count reads prompts and writes answers.
///
/// Prompts are random tokens, other ones in every run, without the prefix cache. A run's first part,
/// until every prompt is read, is prefill; the rest, one step per token for all requests together, is
/// decode. Both speeds count the tokens of all concurrent requests; each is the median of several runs
/// after one that does not count.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Prompt lengths in tokens, such as 512,2048.
    #[arg(short, long = "prompt", value_name = "TOKENS", value_delimiter = ',', default_value = "512",
        value_parser = at_least_1)]
    prompts: Vec<usize>,
    /// Tokens to decode after each prompt; 0 measures prefill only.
    #[arg(short = 'n', long = "decode", value_name = "TOKENS", default_value_t = 128)]
    decode: u32,
    /// How many requests run at once.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = at_least_1)]
    concurrency: usize,
    /// Chain counts, such as 1,2,4, or all.
    #[arg(long, value_name = "LIST", default_value = "all", allow_negative_numbers = true)]
    chains: String,
    /// Over how many runs to take the median.
    #[arg(long, value_name = "N", default_value = "5", value_parser = at_least_1)]
    runs: usize,
    /// Print JSON: [{"chains":1,"prompt":512,"decode":128,"concurrency":1,"runs":5,
    /// "prefill_tok_s":x,"decode_tok_s":y},..].
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub load: LoadArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm bench -m models/tiny-colm-air
  colm bench -m models/tiny-colm-air -p 512,2048 -n 128 --chains 1,4
  colm bench -m models/tiny-colm-air -p 128 -c 16 --json";

/// The speeds at one chain count and prompt length.
#[derive(Serialize)]
struct Row {
    chains: usize,
    prompt: usize,
    decode: usize,
    concurrency: usize,
    runs: usize,
    prefill_tok_s: Option<f64>,
    /// None if no token is decoded.
    decode_tok_s: Option<f64>,
}

/// One measurement: requests that run at once.
struct Load {
    chains: ChainCount,
    prompt: usize,
    decode: usize,
    concurrency: usize,
}

/// The two parts of a run.
struct Times {
    prefill: Duration,
    decode: Duration,
}

/// Measures and prints every chain count at every prompt length.
pub async fn run(args: BenchArgs) -> Result<()> {
    let builder = args.load.builder().prefix_cache(false).ignore_eos(true);
    let engine = builder.max_seqs(args.load.max_seqs.max(args.concurrency)).start().await?;
    let loads = args.loads(&engine)?;
    let bar = progress(loads.len() * (args.runs + 1));
    let mut random = StdRng::seed_from_u64(0);
    let mut rows = Vec::with_capacity(loads.len());
    for load in &loads {
        bar.set_message(format!("k = {}, prompt {}", load.chains, load.prompt));
        let mut times = Vec::new();
        for run in 0..=args.runs {
            let measured = load.run(&engine, &mut random).await?;
            if run > 0 {
                times.push(measured);
            }
            bar.inc(1);
        }
        rows.push(load.row(&times));
    }
    bar.finish_and_clear();
    print(&rows, args.json)
}

impl BenchArgs {
    /// What to measure, chain count by chain count; refused if it does not fit `engine`.
    fn loads(&self, engine: &Engine) -> Result<Vec<Load>> {
        let (decode, concurrency) = (self.decode as usize, self.concurrency);
        let mut loads = Vec::new();
        for chains in parse_chain_list(&self.chains, engine).context("--chains")? {
            for &prompt in &self.prompts {
                let load = Load { chains, prompt, decode, concurrency };
                let (tokens, longest) = (load.tokens(), engine.max_tokens());
                if tokens > longest {
                    bail!(
                        "-p {prompt} -n {decode}: a sequence of {tokens} tokens, and the model's \
                         context or its KV cache holds {longest}"
                    );
                }
                loads.push(load);
            }
        }
        Ok(loads)
    }
}

impl Load {
    /// The length of each sequence at its end. Its first new token comes from the prompt's own step.
    fn tokens(&self) -> usize {
        self.prompt + 1 + self.decode
    }

    /// Sends all requests, for fresh prompts, and waits for their ends.
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
        // The engine reads every prompt before it decodes.
        let read = first_tokens.into_iter().max().unwrap_or(end);
        Ok(Times { prefill: read - start, decode: end - read })
    }

    /// Refuses a run in which the engine has computed tokens twice, as it does when the KV cache is full.
    fn check(&self, counts: Counts) -> Result<()> {
        let Counts { prompt, decoded, .. } = counts;
        let expected = (self.concurrency * self.prompt, self.concurrency * self.decode);
        if (prompt, decoded) != expected {
            bail!(
                "the engine computed {prompt} prompt and {decoded} decode tokens, expected {} and {}: \
                 raise --kv-cache-mb until {} sequences of {} tokens fit",
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

/// When the engine had the first token of the answer; waits for the last.
async fn first_token(engine: &Engine, request: Request) -> Result<Instant> {
    let mut answer = engine.stream(request).await?;
    while answer.try_next().await?.is_some() {}
    answer.first_sampled().context("an answer without a token")
}

/// The middle one; of an even number, the mean of the two in the middle.
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
    fn the_median_is_the_middle() {
        let ms = Duration::from_millis;
        assert_eq!(median(vec![ms(30), ms(10), ms(20)]), ms(20));
        assert_eq!(median(vec![ms(40), ms(10), ms(20), ms(30)]), ms(25));
    }
}
