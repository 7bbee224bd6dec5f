//! What to load and how: the arguments that all commands share.

use clap::{Args, ValueEnum};
use colm::{Dtype, Engine, EngineBuilder, Quantization, Result};

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
    /// The most sequences that run at once.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub max_seqs: usize,
    /// MiB of KV cache.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub kv_cache_mb: usize,
    /// Quantize the linear layers while loading: q8_0, q4k, q6k, ...
    #[arg(long, value_name = "TYPE")]
    pub isq: Option<Quantization>,
    /// The dtype of weights and KV cache: f32, bf16, f16 or auto [default: f32 on the CPU, else auto].
    #[arg(long, default_value = "auto", hide_default_value = true)]
    pub dtype: Dtype,
    /// Self-speculation: draft up to N tokens with the first chain and verify them with all chains in one step.
    /// Answers do not change; they are faster if many drafts are accepted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub drafts: usize,
    /// Run on the CPU, although this build could run on a GPU.
    #[arg(long)]
    pub cpu: bool,
    /// Compute every prompt from its first token, even if the KV cache holds the beginning.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Show the engine's log on stderr (the variable RUST_LOG selects what is shown).
    #[arg(short, long)]
    pub verbose: bool,
}

impl LoadArgs {
    /// The options for the engine.
    pub fn builder(&self) -> EngineBuilder {
        Engine::builder(&self.model)
            .max_chains(self.max_chains)
            .max_seqs(self.max_seqs)
            .kv_cache_mib(self.kv_cache_mb)
            .cpu(self.cpu)
            .max_drafts(self.drafts)
            .dtype(self.dtype)
            .quantization(self.isq)
            .prefix_cache(!self.no_prefix_cache)
    }

    /// Loads the model.
    pub async fn engine(&self) -> Result<Engine> {
        self.builder().start().await
    }
}

/// Whether the model's own sampling defaults are used.
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
        load.builder().generation_config(self.is_used()).start().await
    }
}

/// Parses a count of at least 1.
pub fn at_least_1(value: &str) -> Result<usize, String> {
    match value.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count as usize),
        _ => Err(format!("expected a whole number from 1 to {}", u32::MAX)),
    }
}
