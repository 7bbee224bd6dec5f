//! One measurement, in a process of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use colm::{Engine, EngineBuilder, KvStoreOptions, PrefillServerOptions, Request};
use colm_testing::process_memory::resident_mib_of;
use colm_testing::running_answers::{first_token_ms, prompt_tokens, RunningAnswers};
use colm_testing::server_process::ServerProcess;
use colm_testing::statistics::median;
use serde::{Deserialize, Serialize};

/// What to measure, and on which engine.
#[derive(Serialize, Deserialize)]
pub struct Measurement {
    /// The model folder.
    pub model: PathBuf,
    /// The URL of the store.
    pub store: Option<String>,
    /// Tokens of the long prompt.
    pub prompt: usize,
    /// The model's context in tokens.
    pub context: usize,
    pub work: Work,
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Work {
    /// Without a store: the prompt computed, and again from memory.
    Computed,
    /// Computes the prompt, which fills the store.
    Fill,
    /// Reads the prompt from the store, whose kind is named.
    Read { from: String },
    /// Computes the prompt beside running answers.
    Beside { streams: usize },
    /// The same, but another process computes the prompt.
    Prefilled { streams: usize },
    /// Prompts that the store does not have, with and without it.
    Overhead,
}

/// Names, values and units.
pub type Values = Vec<(String, f64, String)>;

/// Layers of the models, so that the smallest has more than 100 million weights.
pub const LAYERS: usize = 10;

/// Keys and values in f32 of the largest model: 4 heads of 64 in each layer.
const KV_BYTES_PER_TOKEN: usize = 2 * LAYERS * 4 * 64 * 4;

/// A KV cache that takes little memory compared with the weights.
const SMALL_KV_MIB: usize = 64;

/// Prompts of the overhead, and their tokens.
const MISSES: usize = 48;
const MISS_TOKENS: usize = 512;

/// Runs `measurement` and writes its values to stdout as JSON.
pub fn run(measurement: &Measurement) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let values = runtime.block_on(measure(measurement))?;
    println!("{}", serde_json::to_string(&values)?);
    Ok(())
}

impl Measurement {
    fn builder(&self) -> EngineBuilder {
        let kv_bytes = 2 * self.context * KV_BYTES_PER_TOKEN;
        Engine::builder(self.model.to_string_lossy()).ignore_eos(true).kv_cache_mib(kv_bytes >> 20)
    }

    fn store(&self) -> Result<KvStoreOptions> {
        let url = self.store.as_ref().context("no store")?;
        // The whole prompt waits to be written at once.
        Ok(KvStoreOptions::new(url)?.buffer_mib(4096).timeout(Duration::from_secs(60)))
    }

    /// An engine that has answered a short prompt.
    async fn start(&self, builder: EngineBuilder) -> Result<Engine> {
        let engine = builder.start().await?;
        first_token_ms(&engine, prompt_tokens(64, 1)).await?;
        Ok(engine)
    }

    fn long_prompt(&self) -> Vec<u32> {
        prompt_tokens(self.prompt, 2)
    }
}

fn ms(what: impl Into<String>, value: f64) -> (String, f64, String) {
    (what.into(), value, "ms".into())
}

async fn measure(measurement: &Measurement) -> Result<Values> {
    match &measurement.work {
        Work::Computed => computed(measurement).await,
        Work::Fill => fill(measurement).await,
        Work::Read { from } => read(measurement, from).await,
        Work::Beside { streams } => {
            let engine = measurement.start(measurement.builder()).await?;
            beside(measurement, &engine, *streams, "computed beside answers").await
        }
        Work::Prefilled { streams } => prefilled(measurement, *streams).await,
        Work::Overhead => overhead(measurement).await,
    }
}

async fn computed(measurement: &Measurement) -> Result<Values> {
    let engine = measurement.start(measurement.builder()).await?;
    let alone = first_token_ms(&engine, measurement.long_prompt()).await?;
    let again = first_token_ms(&engine, measurement.long_prompt()).await?;
    Ok(vec![ms("first token, computed", alone), ms("first token, from memory", again)])
}

async fn fill(measurement: &Measurement) -> Result<Values> {
    let engine = measurement.start(measurement.builder().kv_store(measurement.store()?)).await?;
    let alone = first_token_ms(&engine, measurement.long_prompt()).await?;
    let began = Instant::now();
    engine.flush_kv_store().await;
    let url = measurement.store.as_deref().unwrap_or_default();
    let mut values = vec![
        ms("first token, computed and stored", alone),
        ms("until all blocks are stored", began.elapsed().as_secs_f64() * 1e3),
    ];
    if let Some(folder) = url.strip_prefix("file://") {
        let bytes = folder_bytes(folder.as_ref())? as f64 / (measurement.prompt + 64) as f64;
        values.push(("stored per token".into(), bytes, "bytes".into()));
    }
    Ok(values)
}

fn folder_bytes(folder: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

async fn read(measurement: &Measurement, from: &str) -> Result<Values> {
    let engine = measurement.start(measurement.builder().kv_store(measurement.store()?)).await?;
    let read = first_token_ms(&engine, measurement.long_prompt()).await?;
    let reused = engine.counts().reused;
    ensure!(reused + engine.block_size() >= measurement.prompt, "only {reused} tokens were read");
    Ok(vec![ms(format!("first token, from {from}"), read)])
}

async fn beside(
    measurement: &Measurement,
    engine: &Engine,
    streams: usize,
    what: &str,
) -> Result<Values> {
    let answers = RunningAnswers::start(engine, streams).await?;
    let began = Instant::now();
    let first_token = first_token_ms(engine, measurement.long_prompt()).await?;
    let gaps = answers.gaps(began, Instant::now()).await?;
    Ok(vec![
        ms(format!("first token, {what}"), first_token),
        ms(format!("gap before, {what}, p50"), gaps.alone),
        ms(format!("gap, {what}, p50"), gaps.p50),
        ms(format!("gap, {what}, p99"), gaps.p99),
        ms(format!("gap, {what}, max"), gaps.max),
    ])
}

/// Another process computes prompts. For an Air it holds the first chain alone.
async fn prefilled(measurement: &Measurement, streams: usize) -> Result<Values> {
    let engine = measurement.builder().start().await?;
    let config = engine.config();
    let whole = config.chains.count();
    let is_air = whole > 1 && config.kv_heads.of(1) == 0;
    let chains = if is_air { 1 } else { whole };
    drop(engine);
    let mut values = Values::new();
    for (what, chains) in [("prefill process", chains), ("whole model", whole)] {
        let server = prefill_server(measurement, chains, SMALL_KV_MIB)?;
        let resident = resident_mib_of(server.id())?;
        values.push((format!("resident, {what}"), resident, "MiB".into()));
    }
    let server = prefill_server(measurement, chains, 1024)?;
    let prefill = PrefillServerOptions::new(format!("http://{}", server.address()));
    let store = measurement.store()?.prefill_server(prefill);
    let engine = measurement.start(measurement.builder().kv_store(store)).await?;
    values.extend(beside(measurement, &engine, streams, "prefilled by another process").await?);
    let reused = engine.counts().reused;
    ensure!(
        reused + engine.block_size() >= measurement.prompt,
        "only {reused} tokens were prefilled"
    );
    Ok(values)
}

/// A prefill server that opens `chains` chains.
fn prefill_server(
    measurement: &Measurement,
    chains: usize,
    kv_cache_mib: usize,
) -> Result<ServerProcess> {
    let url = measurement.store.as_ref().context("no store")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_colm"));
    command.arg("serve").arg("-m").arg(&measurement.model).args(["-p", "0", "--role", "prefill"]);
    command.args(["--kv-store", url, "--max-chains", &chains.to_string()]);
    ServerProcess::start(command.args(["--kv-cache-mb", &kv_cache_mib.to_string()]))
}

/// Pairs of prompts, one with the store and one while it is paused, in turn. Two engines would differ by more than the
/// store costs, because their weights lie elsewhere in memory.
async fn overhead(measurement: &Measurement) -> Result<Values> {
    let builder = measurement.builder().kv_cache_mib(1024).kv_store(measurement.store()?);
    let engine = measurement.start(builder).await?;
    let mut ratios = Vec::new();
    for pair in 0..MISSES {
        let mut times = [0.0; 2];
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            engine.pause_kv_store(which == 0);
            let prompt = prompt_tokens(MISS_TOKENS, 100 + 2 * pair + which);
            let request = Request::tokens(prompt).max_tokens(16);
            let began = Instant::now();
            engine.answer(request).await?;
            times[which] = began.elapsed().as_secs_f64();
            // So that no block is copied after the pause has changed.
            engine.flush_kv_store().await;
        }
        ratios.push((times[1] / times[0] - 1.0) * 100.0);
    }
    ensure!(engine.counts().reused == 0, "a prompt was read from the store");
    Ok(vec![("overhead without hits".into(), median(&ratios).context("no pairs")?, "%".into())])
}
