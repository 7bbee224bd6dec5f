//! What to load and how: the arguments that all commands share.

use anyhow::Result;
use clap::{Args, ValueEnum};
use colm::{Engine, EngineOptions};
use mistralrs_core::{parse_isq_value, IsqType, ModelDType};

/// The model and the engine around it.
#[derive(Args)]
#[command(next_help_heading = "Model and engine")]
pub struct LoadArgs {
    /// A model folder, or a Hugging Face model id such as owner/name or owner/name@revision.
    #[arg(short, long, value_name = "DIR")]
    pub model: String,
    /// Read and hold only the first K chains [default: all].
    #[arg(long, value_name = "K")]
    pub max_chains: Option<usize>,
    /// How many sequences run at once.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub max_seqs: usize,
    /// MiB of KV cache.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub kv_cache_mb: usize,
    /// Quantize the linear layers while loading: q8_0, q4k, q6k, ...
    #[arg(long, value_name = "TYPE", value_parser = isq)]
    pub isq: Option<IsqType>,
    /// The dtype of weights and KV cache: f32, bf16, f16 or auto [default: f32 on the CPU, else auto].
    #[arg(long, value_parser = dtype)]
    pub dtype: Option<ModelDType>,
    /// Self-speculation: draft up to N tokens with the first chain and check them with all at once. The same
    /// answers, sooner where the first chain guesses well.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub drafts: usize,
    /// Run on the CPU, although this build could run on a GPU.
    #[arg(long)]
    pub cpu: bool,
    /// Compute every prompt from its first token on, whatever the KV cache holds.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Show the engine's log (on stderr; the variable RUST_LOG says more finely what).
    #[arg(short, long)]
    pub verbose: bool,
}

impl LoadArgs {
    /// As the engine takes them.
    pub fn options(&self) -> EngineOptions {
        EngineOptions {
            max_chains: self.max_chains,
            max_seqs: self.max_seqs,
            kv_cache_mb: self.kv_cache_mb,
            cpu: self.cpu,
            drafts: self.drafts,
            dtype: self.dtype,
            isq: self.isq,
            prefix_cache: !self.no_prefix_cache,
            ..EngineOptions::new(&self.model)
        }
    }

    /// Loads the model.
    pub async fn engine(&self) -> Result<Engine> {
        Engine::start(&self.options()).await
    }
}

/// Whether the model's own defaults of sampling count.
#[derive(Args)]
pub struct GenerationConfigArgs {
    /// auto: sampling parameters that a request omits come from the model's generation_config.json (temperature,
    /// top_p, top_k, min_p, repetition_penalty); none: they do not.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = GenerationConfig::Auto)]
    generation_config: GenerationConfig,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GenerationConfig {
    Auto,
    None,
}

impl GenerationConfigArgs {
    /// Whether they are used.
    pub fn is_used(&self) -> bool {
        self.generation_config == GenerationConfig::Auto
    }

    /// Loads the model that `load` says.
    pub async fn engine(&self, load: &LoadArgs) -> Result<Engine> {
        let generation_config = self.is_used();
        Engine::start(&EngineOptions { generation_config, ..load.options() }).await
    }
}

/// A count where 0 makes no sense.
pub fn at_least_1(value: &str) -> Result<usize, String> {
    match value.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count as usize),
        _ => Err(format!("expected a whole number from 1 to {}", u32::MAX)),
    }
}

fn dtype(value: &str) -> Result<ModelDType, String> {
    value.parse().map_err(|_| "expected f32, bf16, f16 or auto".into())
}

fn isq(value: &str) -> Result<IsqType, String> {
    parse_isq_value(value, None)
}
