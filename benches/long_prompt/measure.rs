//! One measurement, in a process of its own.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use colm::{Engine, Request};
use colm_testing::process_memory::peak_mib;
use colm_testing::statistics::percentile;
use futures::future::join_all;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// What to measure, and on which engine.
#[derive(Serialize, Deserialize)]
pub struct Measurement {
    /// The model folder.
    pub model: PathBuf,
    /// Prompt tokens per step.
    pub chunk: usize,
    /// The model's context in tokens.
    pub context: usize,
    pub work: Work,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Work {
    /// A prompt alone, and beside running answers.
    Gaps { prompt: usize, streams: usize },
    /// A prompt and one token of its answer, in a fresh process.
    Memory { prompt: usize },
}

/// The values of a measurement, in milliseconds and MiB; 0 for those that it does not have.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Values {
    /// From the request to its first token, with nothing beside it.
    pub alone_ms: f64,
    /// The same of its last chunk, which attends to the most tokens: of a prompt whose other chunks are in the prefix
    /// cache.
    pub chunk_ms: f64,
    /// Median time between two tokens of an answer, without the prompt.
    pub gap_alone_ms: f64,
    /// Time between two tokens of an answer while the prompt is computed.
    pub gap_p50_ms: f64,
    pub gap_p99_ms: f64,
    pub gap_max_ms: f64,
    /// From the request to its first token, beside the running answers.
    pub beside_ms: f64,
    /// Peak resident memory after an eighth of the prompt, and after the prompt.
    pub peak_short_mib: f64,
    pub peak_mib: f64,
}

impl Values {
    /// Name, value and unit for the CSV file.
    pub fn rows(&self) -> [(&'static str, f64, &'static str); 9] {
        [
            ("prompt alone", self.alone_ms, "ms"),
            ("last chunk alone", self.chunk_ms, "ms"),
            ("gap without the prompt, p50", self.gap_alone_ms, "ms"),
            ("gap beside the prompt, p50", self.gap_p50_ms, "ms"),
            ("gap beside the prompt, p99", self.gap_p99_ms, "ms"),
            ("gap beside the prompt, max", self.gap_max_ms, "ms"),
            ("prompt beside answers", self.beside_ms, "ms"),
            ("peak memory, an eighth of the prompt", self.peak_short_mib, "MiB"),
            ("peak memory", self.peak_mib, "MiB"),
        ]
    }
}

/// Runs `measurement` and writes its values to stdout as JSON.
pub fn run(measurement: &Measurement) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let values = runtime.block_on(measure(measurement))?;
    println!("{}", serde_json::to_string(&values)?);
    Ok(())
}

async fn measure(measurement: &Measurement) -> Result<Values> {
    let (streams, kv_tokens) = match measurement.work {
        Work::Gaps { streams, .. } => (streams, 2 * measurement.context),
        Work::Memory { prompt } => (0, prompt + 64),
    };
    let engine = Engine::builder(measurement.model.to_string_lossy())
        .ignore_eos(true)
        .max_seqs(streams + 1)
        .prefill_chunk(measurement.chunk)
        .kv_cache_mib((kv_tokens * KV_BYTES_PER_TOKEN).div_ceil(1024 * 1024))
        .start()
        .await?;
    match measurement.work {
        Work::Gaps { prompt, streams } => gaps(&engine, measurement.chunk, prompt, streams).await,
        Work::Memory { prompt } => {
            first_token_ms(&engine, tokens(prompt, 0)).await?;
            Ok(Values { peak_mib: peak_mib()?, ..Values::default() })
        }
    }
}

/// Keys and values in f32 of the largest model: 8 layers of 4 heads of 64.
const KV_BYTES_PER_TOKEN: usize = 2 * 8 * 4 * 64 * 4;

/// Why there is no percentile.
const TOO_FEW: &str = "no token arrived in time";

/// Tokens of an answer before and after the prompt is computed beside it.
const UNDISTURBED: usize = 40;

async fn gaps(engine: &Engine, chunk: usize, prompt: usize, streams: usize) -> Result<Values> {
    first_token_ms(engine, tokens(64, 1)).await?;
    let mut long_prompt = tokens(prompt, 2);
    let alone_ms = first_token_ms(engine, long_prompt.clone()).await?;
    let last_chunk = prompt.saturating_sub(chunk)..;
    long_prompt[last_chunk].copy_from_slice(&tokens(chunk.min(prompt), 3));
    let chunk_ms = first_token_ms(engine, long_prompt).await?;
    let (started, running) = tokio::sync::watch::channel(0usize);
    let (end, ended) = tokio::sync::watch::channel(false);
    let answers = (0..streams).map(|index| {
        let (engine, started, ended) = (engine.clone(), started.clone(), ended.clone());
        tokio::spawn(async move { token_times(&engine, index, started, ended).await })
    });
    let answers: Vec<_> = answers.collect();
    let mut running = running;
    running.wait_for(|tokens| *tokens >= streams * UNDISTURBED).await?;
    let began = Instant::now();
    let beside_ms = first_token_ms(engine, tokens(prompt, 4)).await?;
    let computed = Instant::now();
    end.send(true)?;
    let mut gaps = Vec::new();
    let mut alone = Vec::new();
    for times in join_all(answers).await {
        for pair in times??.windows(2) {
            let gap = (pair[1] - pair[0]).as_secs_f64() * 1e3;
            if pair[1] < began {
                alone.push(gap);
            } else if pair[0] < computed {
                gaps.push(gap);
            }
        }
    }
    Ok(Values {
        alone_ms,
        chunk_ms,
        gap_alone_ms: percentile(&alone, 0.5).context(TOO_FEW)?,
        gap_p50_ms: percentile(&gaps, 0.5).context(TOO_FEW)?,
        gap_p99_ms: percentile(&gaps, 0.99).context(TOO_FEW)?,
        gap_max_ms: percentile(&gaps, 1.0).context(TOO_FEW)?,
        beside_ms,
        ..Values::default()
    })
}

/// When the tokens of an answer arrived, until `ended` is true.
async fn token_times(
    engine: &Engine,
    index: usize,
    started: tokio::sync::watch::Sender<usize>,
    ended: tokio::sync::watch::Receiver<bool>,
) -> Result<Vec<Instant>> {
    let request = Request::tokens(tokens(32, index + 5)).max_tokens(4000);
    let mut stream = engine.stream(request).await?;
    let mut times = Vec::new();
    while let Some(piece) = stream.next().await {
        piece?;
        times.push(Instant::now());
        started.send_modify(|tokens| *tokens += 1);
        if *ended.borrow() {
            break;
        }
    }
    Ok(times)
}

async fn first_token_ms(engine: &Engine, prompt: Vec<u32>) -> Result<f64> {
    let began = Instant::now();
    let request = Request::tokens(prompt).max_tokens(1);
    let mut stream = engine.stream(request).await?;
    while let Some(piece) = stream.next().await {
        piece?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn tokens(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|at| (1 + (at * at + 31 * at + 977 * seed) % 8191) as u32).collect()
}
