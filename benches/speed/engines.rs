//! The two engines in this binary: colm and mistral.rs with its own Llama.

use std::sync::Arc;

use anyhow::{bail, Context, Result};
use candle_core::DType;
use colm::{kv_bytes_per_token, Dtype, Engine, EngineBuilder};
use colm_checkpoint::ColmConfig;
use colm_testing::host_llama;
use mistralrs_core::MistralRs;

use super::protocol::{EngineKind, Start};
use super::shape::Weights;

/// A loaded model that takes requests.
pub struct Running {
    pub host: Arc<MistralRs>,
    /// The model id; with `@k` appended, the model at k chains.
    pub name: String,
    /// Keeps colm's engine alive; `host` is part of it.
    _engine: Option<Engine>,
}

/// Loads the model of `start`.
pub async fn start(start: &Start) -> Result<Running> {
    match start.engine {
        EngineKind::Colm => colm(start).await,
        EngineKind::HostLlama => host_llama(start).await,
        EngineKind::LlamaCpp => bail!("llama.cpp runs in Python"),
    }
}

async fn colm(start: &Start) -> Result<Running> {
    let isq = start.weights.isq();
    // The embedding of a quantized model stays as it is stored.
    let (dtype, kv_cache_dtype) = match start.weights {
        Weights::Bf16 => (Dtype::BF16, Dtype::BF16),
        Weights::F32 => (Dtype::F32, Dtype::F32),
        Weights::Q8_0 | Weights::Q4k => (Dtype::Auto, Dtype::F32),
    };
    let engine = Engine::builder(start.model.to_string_lossy())
        .max_chains(start.max_chains)
        .max_seqs(start.sequences)
        .kv_cache_mib(kv_cache_mib(start)?)
        .dtype(dtype)
        .kv_cache_dtype(kv_cache_dtype)
        .quantization(isq.map(|isq| isq.to_string().parse()).transpose()?)
        .matmul_precision(start.matmul_precision.as_deref().map(str::parse).transpose()?)
        .prefix_cache(false)
        .ignore_eos(true)
        .start()
        .await?;
    let (host, name) = (engine.host().clone(), engine.name().to_owned());
    Ok(Running { host, name, _engine: Some(engine) })
}

/// The KV cache size for `start.tokens` tokens, with a partly filled last block per sequence and the block that the
/// engine reserves.
fn kv_cache_mib(start: &Start) -> Result<usize> {
    let config = ColmConfig::read(&start.model.join("config.json"))?;
    let k = config.chain_count(start.max_chains.unwrap_or(config.chains.count()))?;
    let dtype = match start.weights {
        Weights::Bf16 => DType::BF16,
        _ => DType::F32,
    };
    let block = EngineBuilder::DEFAULT_BLOCK_SIZE;
    let tokens = start.tokens + block * (start.sequences + 2);
    Ok((tokens * kv_bytes_per_token(&config, k, dtype)).div_ceil(1 << 20))
}

async fn host_llama(start: &Start) -> Result<Running> {
    let (dtype, isq) = (start.weights.dtype(), start.weights.isq());
    let host = host_llama::engine(&start.model, dtype, isq, start.sequences)
        .await
        .context("cannot load the host's Llama")?;
    Ok(Running { host, name: String::new(), _engine: None })
}
