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
use super::load::{DraftArgs, LoadArgs};
use super::output::Stdout;
use super::parsers::{at_least_1, count};
use super::progress::progress;
use super::speed::per_second;

/// Measure the prefill and decode speed at each chain count.
///
/// Prompts are random tokens, different in each run, and the prefix cache is off. The prefill speed is that of all
/// prompts, without decoding. The decode speed is that after the last prompt, when all requests decode. Speeds count the
/// tokens of all concurrent requests. Each speed is the median of several runs after a warm-up run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Prompt lengths in tokens, such as `512,2048`.
    #[arg(short, long = "prompt", value_name = "TOKENS", value_delimiter = ',', default_value = "512",
        value_parser = at_least_1)]
    prompts: Vec<usize>,
    /// Number of tokens to decode after each prompt; 0 measures prefill only.
    #[arg(short = 'n', long = "decode", value_name = "TOKENS", default_value_t = 128, value_parser = count)]
    decode: usize,
    /// Number of concurrent requests.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = at_least_1)]
    concurrency: usize,
    /// Chain counts to measure, such as `1,2,4`, or `all`.
    #[arg(long, value_name = "LIST", default_value = "all")]
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
#[derive(Clone, Copy)]
struct Workload {
    chains: ChainCount,
    prompt: usize,
    decode: usize,
    concurrency: usize,
    /// The most prompt tokens of a step.
    prefill_chunk: usize,
}

/// When the tokens of one answer were sampled. There is at least one.
struct Timeline(Vec<Instant>);

/// The result of one run.
struct Measured {
    /// The time for all prompts.
    prefill: Duration,
    /// Tokens that were decoded after the last prompt.
    decoded: usize,
    /// The time for those.
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
        let mut results = Vec::new();
        for run in 0..=args.runs {
            let measured = workload.run(&engine, &mut random).await?;
            if run > 0 {
                results.push(measured);
            }
            bar.inc(1);
        }
        rows.push(workload.row(&results));
    }
    bar.finish_and_clear();
    print(&rows, args.json)
}

impl BenchArgs {
    /// The workloads to measure. Fails if one does not fit the KV cache or the context of the model.
    fn workloads(&self, engine: &Engine) -> Result<Vec<Workload>> {
        let (decode, concurrency) = (self.decode, self.concurrency);
        let mut workloads = Vec::new();
        for chains in parse_chain_list(&self.chains, engine).context("--chains")? {
            for &prompt in &self.prompts {
                let prefill_chunk = self.load.prefill_chunk;
                let workload = Workload { chains, prompt, decode, concurrency, prefill_chunk };
                let (tokens, limit) = (workload.tokens(), engine.max_tokens());
                if tokens > limit {
                    let early = match workload.decode_tokens(0) - decode {
                        0 => String::new(),
                        early => {
                            format!(", {early} of them decoded while other prompts are processed")
                        }
                    };
                    bail!(
                        "-p {prompt} -n {decode} -c {concurrency}: a sequence has {tokens} tokens{early}: expected at \
                         most {limit}, the limit of the model's context or the KV cache"
                    );
                }
                workloads.push(workload);
            }
        }
        Ok(workloads)
    }
}

impl Workload {
    /// The final length of the longest sequence. The first new token is sampled from the prefill step, the others from
    /// decode steps.
    fn tokens(&self) -> usize {
        self.prompt + 1 + self.decode_tokens(0)
    }

    /// How many tokens request `index` decodes: --decode, and before them those that it decodes while the prompts of the
    /// requests after it are processed, so that all requests end at about the same step.
    fn decode_tokens(&self, index: usize) -> usize {
        if self.decode == 0 {
            return 0;
        }
        let last_step = |count: usize| (count * self.prompt - 1) / self.prefill_chunk;
        self.decode + last_step(self.concurrency) - last_step(index + 1)
    }

    /// Measures prefill and decoding.
    async fn run(&self, engine: &Engine, random: &mut StdRng) -> Result<Measured> {
        let measured = self.pass(engine, random).await?;
        if self.concurrency == 1 || self.decode == 0 {
            return Ok(measured);
        }
        // The first requests decode while the prompts of the others are processed.
        let prefill = Self { decode: 0, ..*self }.pass(engine, random).await?.prefill;
        Ok(Measured { prefill, ..measured })
    }

    /// Runs all requests with new prompts until they end.
    async fn pass(&self, engine: &Engine, random: &mut StdRng) -> Result<Measured> {
        let vocab = engine.config().file.vocab_size as u32;
        let prompts: Vec<Vec<u32>> = (0..self.concurrency)
            .map(|_| (0..self.prompt).map(|_| random.random_range(0..vocab)).collect())
            .collect();
        let (before, start) = (engine.counts(), Instant::now());
        let requests = prompts.into_iter().enumerate().map(|(index, prompt)| {
            let request = Request::tokens(prompt).chains(self.chains);
            timeline(engine, request.max_tokens(self.decode_tokens(index) + 1))
        });
        let timelines = try_join_all(requests).await?;
        self.check(engine.counts().since(before))?;
        Ok(self.measured(start, &timelines))
    }

    /// The times of answers whose requests were sent at `start`.
    fn measured(&self, start: Instant, timelines: &[Timeline]) -> Measured {
        let prefilled = timelines.iter().map(Timeline::start).max().unwrap_or(start);
        let end = timelines.iter().map(Timeline::end).max().unwrap_or(start);
        // The requests that decode in the last step of the prompts get that step's token a little later.
        let decoded = |timeline: &Timeline| {
            timeline.0.iter().filter(|&&at| at > prefilled).count().min(self.decode)
        };
        let decoded = timelines.iter().map(decoded).sum();
        Measured { prefill: prefilled - start, decoded, decode: end - prefilled }
    }

    /// Fails if the engine has computed tokens twice, which happens when the KV cache is full.
    fn check(&self, counts: Counts) -> Result<()> {
        let Counts { prompt, decoded, .. } = counts;
        let decode: usize = (0..self.concurrency).map(|index| self.decode_tokens(index)).sum();
        let expected = (self.concurrency * self.prompt, decode);
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

    fn row(&self, results: &[Measured]) -> Row {
        let prefill = |one: &Measured| per_second(self.concurrency * self.prompt, one.prefill);
        let decode = |one: &Measured| per_second(one.decoded, one.decode);
        Row {
            chains: self.chains.get(),
            prompt: self.prompt,
            decode: self.decode,
            concurrency: self.concurrency,
            runs: results.len(),
            prefill_tok_s: median(results.iter().filter_map(prefill).collect()),
            decode_tok_s: median(results.iter().filter_map(decode).collect()),
        }
    }
}

impl Timeline {
    fn start(&self) -> Instant {
        self.0[0]
    }

    fn end(&self) -> Instant {
        self.0[self.0.len() - 1]
    }
}

/// Runs `request` to its end.
async fn timeline(engine: &Engine, request: Request) -> Result<Timeline> {
    let mut answer = engine.stream(request).await?;
    answer.keep_times();
    while answer.try_next().await?.is_some() {}
    if answer.times().is_empty() {
        bail!("the answer has no tokens");
    }
    Ok(Timeline(answer.times().to_vec()))
}

/// The median: of an even number of speeds, the mean of the two in the middle. None without any.
fn median(mut speeds: Vec<f64>) -> Option<f64> {
    speeds.sort_by(f64::total_cmp);
    let middle = |at: usize| speeds.get(at).copied();
    Some((middle(speeds.len().checked_sub(1)? / 2)? + middle(speeds.len() / 2)?) / 2.)
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

    fn workload(prompt: usize, decode: usize, concurrency: usize) -> Workload {
        let chains = ChainCount::ONE;
        Workload { chains, prompt, decode, concurrency, prefill_chunk: 256 }
    }

    #[test]
    fn the_median_of_an_even_number_is_a_mean() {
        assert_eq!(median(vec![30., 10., 20.]), Some(20.));
        assert_eq!(median(vec![40., 10., 20., 30.]), Some(25.));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn early_requests_decode_until_the_last_prompt_is_processed() {
        let tokens = |workload: Workload| {
            (0..workload.concurrency).map(|index| workload.decode_tokens(index)).collect::<Vec<_>>()
        };
        assert_eq!(tokens(workload(1024, 64, 3)), [72, 68, 64]);
        assert_eq!(tokens(workload(100, 4, 6)), [6, 6, 5, 5, 5, 4]);
        assert_eq!(tokens(workload(1024, 0, 3)), [0; 3]);
        assert_eq!(tokens(workload(2048, 64, 1)), [64]);
    }

    #[test]
    fn tokens_before_the_end_of_the_last_prompt_are_not_counted() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let timeline = |at: &[u64]| Timeline(at.iter().map(|&at| start + ms(at)).collect());
        // 32 belongs to the step of 31.
        let all = [timeline(&[10, 20, 32, 42, 52]), timeline(&[31, 41, 51])];
        let Measured { prefill, decoded, decode } = workload(8, 2, 2).measured(start, &all);
        assert_eq!((prefill, decoded, decode), (ms(31), 4, ms(21)));
    }
}
