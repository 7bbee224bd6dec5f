//! Arguments that the commands share: the model and the engine.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use colm::{Dtype, Engine, EngineBuilder, KvStoreOptions, MatmulPrecision, Quantization, Result};

use super::output::print_stderr;
use super::parsers::{count, gigabytes, positive_seconds};

/// The model and the options of the engine.
#[derive(Args)]
#[command(next_help_heading = "Model and engine")]
pub struct LoadArgs {
    /// Model folder, or Hugging Face model id such as `owner/name` or `owner/name@revision`.
    #[arg(short, long, value_name = "DIR", value_parser = NonEmptyStringValueParser::new())]
    pub model: String,
    /// Load only the first K chains [default: all].
    #[arg(long, value_name = "K", value_parser = count)]
    pub max_chains: Option<usize>,
    /// Maximum number of sequences that run at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count)]
    pub max_seqs: usize,
    /// Size of the KV cache in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = count)]
    pub kv_cache_mb: usize,
    /// Compute at most N prompt tokens in a step, a multiple of 32. A longer prompt takes several steps, and every step
    /// also decodes a token of each running answer.
    #[arg(long, value_name = "N", default_value_t = EngineBuilder::DEFAULT_PREFILL_CHUNK, value_parser = count)]
    pub prefill_chunk: usize,
    /// Quantize the linear layers and the LM head while loading, to a type such as `q8_0`, `q6k` or `q4k`.
    #[arg(long, value_name = "TYPE")]
    pub isq: Option<Quantization>,
    /// Dtype of the weights: `f32`, `bf16`, `f16` or `auto`, which on the CPU is the dtype they are stored in, and on a
    /// GPU bf16, or f16 if it has no bf16.
    #[arg(long, default_value = "auto")]
    pub dtype: Dtype,
    /// Dtype of the KV cache: `f32`, `bf16`, `f16` or `auto`, which is f32 on the CPU and the dtype of the weights on a
    /// GPU.
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    pub kv_cache_dtype: Dtype,
    /// Precision of activations in linear layers on the CPU: `f32`, or `bf16`, which rounds them. With `bf16`, prompts
    /// are faster on some processors, and answers may differ slightly. See docs/quantization.md [default: f32].
    #[arg(long, value_name = "PRECISION")]
    pub matmul_precision: Option<MatmulPrecision>,
    /// Run on the CPU even if this build supports a GPU.
    #[arg(long)]
    pub cpu: bool,
    /// Disable the prefix cache: compute every prompt from its first token.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Read flags from this TOML file: `max-queue = 100`, for one command in a table such as `[serve]`.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before the arguments are parsed")]
    config: Option<PathBuf>,
    /// Write the log of the engine to stderr. The environment variable `RUST_LOG` filters it.
    #[arg(short, long)]
    pub verbose: bool,
}

impl LoadArgs {
    /// An engine with these options.
    pub fn builder(&self) -> EngineBuilder {
        Engine::builder(&self.model)
            .max_chains(self.max_chains)
            .max_seqs(self.max_seqs)
            .kv_cache_mib(self.kv_cache_mb)
            .prefill_chunk(self.prefill_chunk)
            .cpu(self.cpu)
            .dtype(self.dtype)
            .kv_cache_dtype(self.kv_cache_dtype)
            .matmul_precision(self.matmul_precision)
            .progress_bar(true)
            .quantization(self.isq)
            .prefix_cache(!self.no_prefix_cache)
    }

    /// Loads the model.
    pub async fn engine(&self) -> Result<Engine> {
        self.builder().start().await
    }
}

/// Where KV blocks are kept outside the process.
#[derive(Args)]
#[command(next_help_heading = "KV store")]
pub struct KvStoreArgs {
    /// Keep KV blocks in this store as well, where other processes and later ones find them: `file:///var/cache/colm/kv`,
    /// `redis://host:6379`. See docs/kv-store.md.
    #[arg(long, value_name = "URL", hide_env_values = true)]
    kv_store: Option<String>,
    /// Size of a file store in GB. Beyond it, the least recently used blocks are deleted [default: no limit].
    #[arg(long, value_name = "GB", value_parser = gigabytes, requires = "kv_store")]
    kv_store_gb: Option<u64>,
    /// Longest time that a request waits for the store.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, default_value = "2")]
    kv_store_timeout: Duration,
    /// MiB of memory for blocks that wait to be written, and the same again for blocks that have been read.
    #[arg(long, value_name = "MIB", default_value_t = KvStoreOptions::DEFAULT_BUFFER_MIB, value_parser = count)]
    kv_store_buffer_mb: usize,
    /// Read blocks even where the rates measured so far say that computing them is faster.
    #[arg(long, requires = "kv_store")]
    kv_store_always_read: bool,
}

impl KvStoreArgs {
    /// The store; None if there is none.
    pub fn options(&self) -> Result<Option<KvStoreOptions>> {
        let Some(url) = &self.kv_store else { return Ok(None) };
        let options = KvStoreOptions::new(url)?
            .max_bytes(self.kv_store_gb)
            .timeout(self.kv_store_timeout)
            .buffer_mib(self.kv_store_buffer_mb)
            .always_read(self.kv_store_always_read);
        Ok(Some(options))
    }
}

/// Waits until the KV blocks computed so far are in the store, but not for long.
pub async fn flush_kv_store(engine: &Engine) {
    const LONGEST: Duration = Duration::from_secs(5);
    if tokio::time::timeout(LONGEST, engine.flush_kv_store()).await.is_err() {
        print_stderr("--kv-store: the last blocks were not written in time");
    }
}

/// Self-speculation.
#[derive(Args)]
#[command(next_help_heading = "Model and engine")]
pub struct DraftArgs {
    /// Self-speculation: draft up to N tokens with the first chain, and verify them in one step at the request's chains.
    /// Answers do not change. They are faster if most drafts are accepted.
    #[arg(long = "drafts", value_name = "N", default_value_t = 0, value_parser = count)]
    pub max_drafts: usize,
}

/// Whether to use the model's sampling defaults.
#[derive(Args)]
pub struct GenerationConfigArgs {
    /// Defaults of the sampling parameters: `auto` takes do_sample, temperature, top_p, top_k, min_p and
    /// repetition_penalty from the model's generation_config.json, `none` ignores these six fields.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = GenerationConfig::Auto)]
    generation_config: GenerationConfig,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GenerationConfig {
    Auto,
    None,
}

impl GenerationConfigArgs {
    /// Whether the defaults are used.
    pub fn is_used(&self) -> bool {
        self.generation_config == GenerationConfig::Auto
    }
}
