//! One measurement, in a process of its own.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use colm::Engine;
use colm_testing::process_memory::peak_mib;
use colm_testing::running_answers::{first_token_ms, prompt_tokens, RunningAnswers};
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
            first_token_ms(&engine, prompt_tokens(prompt, 0)).await?;
            Ok(Values { peak_mib: peak_mib()?, ..Values::default() })
        }
    }
}

/// Keys and values in f32 of the largest model: 8 layers of 4 heads of 64.
const KV_BYTES_PER_TOKEN: usize = 2 * 8 * 4 * 64 * 4;

async fn gaps(engine: &Engine, chunk: usize, prompt: usize, streams: usize) -> Result<Values> {
    first_token_ms(engine, prompt_tokens(64, 1)).await?;
    let mut long_prompt = prompt_tokens(prompt, 2);
    let alone_ms = first_token_ms(engine, long_prompt.clone()).await?;
    let last_chunk = prompt.saturating_sub(chunk)..;
    long_prompt[last_chunk].copy_from_slice(&prompt_tokens(chunk.min(prompt), 3));
    let chunk_ms = first_token_ms(engine, long_prompt).await?;
    let answers = RunningAnswers::start(engine, streams).await?;
    let began = Instant::now();
    let beside_ms = first_token_ms(engine, prompt_tokens(prompt, 4)).await?;
    let gaps = answers.gaps(began, Instant::now()).await?;
    Ok(Values {
        alone_ms,
        chunk_ms,
        gap_alone_ms: gaps.alone,
        gap_p50_ms: gaps.p50,
        gap_p99_ms: gaps.p99,
        gap_max_ms: gaps.max,
        beside_ms,
        ..Values::default()
    })
}
