//! The options of an engine. [`EngineBuilder::start`] starts it, in [`start`](super::start).

use colm_kernels::MatmulPrecision;

use super::dtype::{Dtype, Quantization};
use super::engine::Engine;
use super::kv_tier::KvStoreOptions;
use crate::error::{Error, Result};

/// The options of an [`Engine`]. See [`Engine::builder`].
#[derive(Clone, Debug)]
#[must_use = "an engine is only started by `start`"]
pub struct EngineBuilder {
    pub(super) model: String,
    pub(super) max_chains: Option<usize>,
    pub(super) max_seqs: usize,
    pub(super) kv_cache_mib: usize,
    pub(super) block_size: usize,
    pub(super) prefill_chunk: usize,
    pub(super) cpu: bool,
    pub(super) dtype: Dtype,
    pub(super) kv_cache_dtype: Dtype,
    pub(super) matmul_precision: Option<MatmulPrecision>,
    pub(super) progress_bar: bool,
    pub(super) quantization: Option<Quantization>,
    pub(super) max_drafts: usize,
    pub(super) generation_config: bool,
    pub(super) prefix_cache: bool,
    pub(super) kv_store: Option<KvStoreOptions>,
    pub(super) reserve_kv_cache: bool,
    pub(super) ignore_eos: bool,
}

impl EngineBuilder {
    /// Positions per KV block, unless [`Self::block_size`] is called.
    pub const DEFAULT_BLOCK_SIZE: usize = 32;
    /// Prompt tokens per step, unless [`Self::prefill_chunk`] is called. On a CPU a long prompt takes as long in smaller
    /// chunks as in larger ones, and smaller ones delay other answers less (`benches/RESULTS.md`). Not measured on a GPU.
    pub const DEFAULT_PREFILL_CHUNK: usize = 256;

    pub(super) fn new(model: String) -> Self {
        Self {
            model,
            max_chains: None,
            max_seqs: 32,
            kv_cache_mib: 512,
            block_size: Self::DEFAULT_BLOCK_SIZE,
            prefill_chunk: Self::DEFAULT_PREFILL_CHUNK,
            cpu: false,
            dtype: Dtype::Auto,
            kv_cache_dtype: Dtype::Auto,
            matmul_precision: None,
            progress_bar: false,
            quantization: None,
            max_drafts: 0,
            generation_config: true,
            prefix_cache: true,
            kv_store: None,
            reserve_kv_cache: false,
            ignore_eos: false,
        }
    }

    /// Reads and holds only the first `k` chains. Default: all.
    pub fn max_chains(mut self, k: impl Into<Option<usize>>) -> Self {
        self.max_chains = k.into();
        self
    }

    /// How many sequences run at once, at least 1. Default: 32.
    pub fn max_seqs(mut self, sequences: usize) -> Self {
        self.max_seqs = sequences;
        self
    }

    /// The size of the KV cache in MiB. Default: 512.
    pub fn kv_cache_mib(mut self, mib: usize) -> Self {
        self.kv_cache_mib = mib;
        self
    }

    /// Positions per KV block: 8, 16 or 32; 16 or 32 on a GPU. Default: 32.
    pub fn block_size(mut self, positions: usize) -> Self {
        self.block_size = positions;
        self
    }

    /// The most prompt tokens that a step computes, a multiple of the block size. A longer prompt is computed in several
    /// steps, and every step also decodes a token of each running sequence. Smaller chunks delay running answers less;
    /// larger ones compute long prompts slightly faster. Answers do not depend on it. Default: 256.
    pub fn prefill_chunk(mut self, tokens: usize) -> Self {
        self.prefill_chunk = tokens;
        self
    }

    /// Runs on the CPU, although this build could run on a GPU. Default: false.
    pub fn cpu(mut self, cpu: bool) -> Self {
        self.cpu = cpu;
        self
    }

    /// The dtype of the weights. Default: [`Dtype::Auto`], which on the CPU is the dtype they are stored in. There all
    /// dtypes are multiplied with activations in f32, so bf16 weights give the same answers as their f32 copies, up to
    /// rounding on a processor with AMX.
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// The dtype of the KV cache. Default: [`Dtype::Auto`], f32 on the CPU and the dtype of the weights on a GPU.
    pub fn kv_cache_dtype(mut self, dtype: Dtype) -> Self {
        self.kv_cache_dtype = dtype;
        self
    }

    /// How exactly linear layers multiply activations on the CPU. Default: all 24 bits of f32. With
    /// [`MatmulPrecision::Bf16`] prompts are read faster on some processors, and answers may differ slightly.
    pub fn matmul_precision(mut self, precision: impl Into<Option<MatmulPrecision>>) -> Self {
        self.matmul_precision = precision.into();
        self
    }

    /// Whether loading shows a progress bar on stderr, if it is a terminal. Default: false.
    pub fn progress_bar(mut self, shown: bool) -> Self {
        self.progress_bar = shown;
        self
    }

    /// Quantizes the linear layers and the LM head while loading. Default: no.
    pub fn quantization(mut self, quantization: impl Into<Option<Quantization>>) -> Self {
        self.quantization = quantization.into();
        self
    }

    /// Self-speculation: the first chain drafts up to `tokens` tokens, and one step at the request's own chain count
    /// verifies them. Answers do not change. Default: 0, no drafts.
    pub fn max_drafts(mut self, tokens: usize) -> Self {
        self.max_drafts = tokens;
        self
    }

    /// Whether [`Engine::sampling_defaults`] come from the model's generation_config.json. Default: true.
    pub fn generation_config(mut self, used: bool) -> Self {
        self.generation_config = used;
        self
    }

    /// Whether prompts reuse KV blocks of earlier prompts that begin with the same tokens. Default: true.
    pub fn prefix_cache(mut self, used: bool) -> Self {
        self.prefix_cache = used;
        self
    }

    /// Where KV blocks are kept outside the process: prompts find blocks there that other processes, or this one before it
    /// was restarted, have computed. Answers do not depend on it. On the CPU only. Default: none.
    pub fn kv_store(mut self, store: impl Into<Option<KvStoreOptions>>) -> Self {
        self.kv_store = store.into();
        self
    }

    /// Whether all memory of the KV cache is taken at the start, so that a server cannot run out of it later. If
    /// not, the system provides it as blocks are used. Default: false.
    pub fn reserve_kv_cache(mut self, reserved: bool) -> Self {
        self.reserve_kv_cache = reserved;
        self
    }

    /// Whether answers continue after the model's end-of-text tokens, for measurements of a fixed length. Default:
    /// false.
    pub fn ignore_eos(mut self, ignored: bool) -> Self {
        self.ignore_eos = ignored;
        self
    }

    /// Loads the model and starts the engine's thread. Needs a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// If an option has a value that cannot work, or if the model folder, its config or its weights are wrong.
    ///
    /// # Panics
    /// On a tokio runtime of the current-thread kind.
    pub async fn start(self) -> Result<Engine> {
        if self.max_seqs == 0 {
            return Err(Error::InvalidOption {
                option: "max_seqs",
                value: "0".into(),
                problem: "no request could ever run, expected 1 or more".into(),
            });
        }
        if self.prefill_chunk == 0 || !self.prefill_chunk.is_multiple_of(self.block_size.max(1)) {
            return Err(Error::InvalidOption {
                option: "prefill_chunk",
                value: self.prefill_chunk.to_string(),
                problem: format!(
                    "a chunk is made of whole KV blocks, expected a multiple of {}, the block size",
                    self.block_size
                ),
            });
        }
        if let (Some(store), false) = (&self.kv_store, self.prefix_cache) {
            return Err(Error::InvalidOption {
                option: "kv_store",
                value: store.url().to_string(),
                problem:
                    "it is the second tier of the prefix cache, which `prefix_cache` turns off"
                        .into(),
            });
        }
        let model = self.model.clone();
        self.load_and_start().await.map_err(|error| Error::load(&model, error))
    }
}

impl Engine {
    /// The options for an engine with `model`: a folder, or a Hugging Face model id such as `owner/name` or
    /// `owner/name@revision`.
    ///
    /// ```no_run
    /// # async fn start() -> colm::Result<()> {
    /// let engine = colm::Engine::builder("models/tiny-colm-air")
    ///     .max_chains(2)
    ///     .kv_cache_mib(64)
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(model: impl Into<String>) -> EngineBuilder {
        EngineBuilder::new(model.into())
    }
}
