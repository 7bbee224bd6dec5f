//! Loads CoLM checkpoints into the host, which selects this loader by `architectures` in config.json.

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{bail, Context, Result};
use candle_core::{DType, Device};
use colm_checkpoint::panics::catch;
use colm_checkpoint::{Architecture, ChainCount, Checkpoint, ColmConfig, ModelConfig, Projection};
use colm_kernels::MatmulPrecision;
use colm_prompt::{ModelFacts, PromptFolder};
use mistralrs_core::ext::{
    register_architecture, AttentionImplementation, IsqModelLoader, KvCacheLayout, LoraConfig,
    ModelConfigMetadata, NormalLoadingMetadata, NormalModel, NormalModelLoader, PromptFiles,
    XLoraConfig,
};
use mistralrs_core::Ordering as LoraOrdering;
use mistralrs_quant::ShardedVarBuilder;
use regex::Regex;

use super::dtype::Quantization;
use super::gpu;
use super::kv_pool::{allocated_head_dim, kv_bytes_per_token, KvPool};
use super::load_weights::quantization;
use super::loaded::Loaded;
use super::memory::MachineMemory;
use super::normal_model::HostedColm;
use super::prompt_files::prompt_files;
use crate::error::{first_line, Error};
use crate::model::Colm;

/// Registers CoLM and CoLM-Air in the host, so that its own model selection loads such checkpoints with all chains.
/// [`Engine`](crate::Engine) does not need it.
pub fn register() {
    for architecture in [Architecture::Colm, Architecture::ColmAir] {
        register_architecture(architecture.name(), || Box::new(ColmLoader::default()));
    }
}

/// Loads the first chains of a checkpoint, in either layout.
#[derive(Debug, Default)]
pub struct ColmLoader {
    /// How many chains to load. None: all.
    pub max_chains: Option<usize>,
    /// The KV cache that the engine will allocate, if its size is known. It is checked against the model.
    pub kv_pool: Option<KvPool>,
    /// The type that linear layers and the LM head are quantized to.
    pub quantization: Option<Quantization>,
    /// The dtype of weights on the CPU. None: as stored, or, for weights that the host loads, that of the KV cache.
    pub weight_dtype: Option<DType>,
    /// The precision of activations on the CPU. None: f32 in colm's kernels; the host's own in layers that it multiplies.
    pub matmul_precision: Option<MatmulPrecision>,
    /// Whether a progress bar is shown on stderr, if it is a terminal.
    pub progress_bar: bool,
    /// The maximum number of tokens that the first chain drafts at once. 0 turns speculation off.
    pub max_drafts: usize,
    /// Set while loading.
    pub loaded: Arc<Loaded>,
    /// The checkpoint whose files the host was told to open.
    pub checkpoint: Mutex<Option<Checkpoint>>,
}

impl ColmLoader {
    pub(super) fn config(&self, json: &str) -> Result<(ColmConfig, ChainCount)> {
        let (model, k) = self.model_config(json)?;
        Ok((model.colm().clone(), k))
    }

    fn model_config(&self, json: &str) -> Result<(ModelConfig, ChainCount)> {
        let model = ModelConfig::parse(json).context("config.json")?;
        let k = chains_to_load(model.colm(), self.max_chains)?;
        Ok((model, k))
    }

    /// The longest sequence, in tokens: limited by the model's context, and by the KV cache or, on the CPU, the memory.
    fn max_tokens(
        &self,
        config: &ColmConfig,
        k: ChainCount,
        device: &Device,
        dtype: DType,
    ) -> usize {
        let cached = match &self.kv_pool {
            Some(pool) => pool.tokens(config, k, dtype),
            None if device.is_cpu() => {
                MachineMemory::now().total / kv_bytes_per_token(config, k, dtype).max(1)
            }
            None => usize::MAX,
        };
        config.file.max_position_embeddings.min(cached)
    }
}

/// The number of chains to load.
pub(super) fn chains_to_load(
    config: &ColmConfig,
    max_chains: Option<usize>,
) -> Result<ChainCount, Error> {
    let Some(k) = max_chains else { return Ok(config.all_chains()) };
    let n = config.chains.count();
    config.chain_count(k).map_err(|_| Error::InvalidOption {
        option: "max_chains",
        value: k.to_string(),
        problem: match n {
            1 => "the model has 1 chain, expected 1".into(),
            n => format!("the model has {n} chains, expected 1 to {n}"),
        },
    })
}

/// The metadata of the first `k` chains for the engine's KV cache and device mapping.
pub(super) fn metadata(config: &ColmConfig, k: ChainCount) -> ModelConfigMetadata {
    let k = k.get();
    ModelConfigMetadata {
        max_seq_len: config.file.max_position_embeddings,
        num_layers: config.file.num_hidden_layers,
        hidden_size: config.hidden.first(k),
        num_kv_heads: config.kv_heads.first(k),
        num_attn_heads: config.heads.first(k),
        sliding_window: None,
        k_head_dim: allocated_head_dim(config),
        v_head_dim: allocated_head_dim(config),
        kv_cache_layout: KvCacheLayout::Standard,
    }
}

/// Opens the checkpoint in `folder` and checks every header. None if its weights are quantized, in the host's formats.
pub(super) fn plain_checkpoint(
    folder: &Path,
    model: &ModelConfig,
    k: ChainCount,
) -> Result<Option<Checkpoint>> {
    let opened = model.open(folder, k);
    if quantization(model.colm())?.is_none() {
        return Ok(Some(opened?));
    }
    match opened {
        Ok(_) => bail!(
            "config.json: `quantization_config`: the weights are not quantized: expected no such field"
        ),
        Err(_) => Ok(None),
    }
}

/// Reads the tokenizer, the chat template and the sampling defaults in `folder`.
pub(super) fn prompt_folder(config: &ColmConfig, folder: &Path) -> Result<PromptFolder> {
    let facts = ModelFacts {
        vocab_size: config.file.vocab_size,
        longest: config.file.max_position_embeddings,
        config: &config.file.other,
    };
    Ok(PromptFolder::read(folder, &facts)?)
}

/// Fails if the engine cannot run the model with its quantization.
fn try_a_step(colm: &Colm, quantization: Option<Quantization>) -> Result<()> {
    let result = catch(|| colm.try_a_step());
    let reason = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => first_line(&error.to_string()),
        Err(panic) => panic,
    };
    let dtype = colm.kv_dtype().as_str();
    match quantization {
        Some(quantization) => {
            bail!("`quantization` {quantization}: the engine does not support it in {dtype}: {reason}")
        }
        None => bail!(
            "config.json: `quantization_config`: the engine does not support it in {dtype}: {reason}"
        ),
    }
}

fn folder_of(files: &[PathBuf]) -> Result<&Path> {
    let folder = files.first().and_then(|file| file.parent());
    folder.context("the model folder has no weight files")
}

impl NormalModelLoader for ColmLoader {
    /// The files of the first chains. Checks every header and, in the dense layout, the submatrices that must be zero and a
    /// tied head.
    fn weight_files(&self, json: &str, found: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let (model, k) = self.model_config(json)?;
        let folder = folder_of(found)?;
        if let Some(checkpoint) = plain_checkpoint(folder, &model, k)? {
            checkpoint.check_zero_submatrices()?;
            checkpoint.check_tied_head()?;
            *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(checkpoint);
        }
        Ok(model.files(folder, k)?)
    }

    fn prompt_files(&self, json: &str, folder: &Path) -> Result<Option<PromptFiles>> {
        let (model, k) = self.model_config(json)?;
        // Check the shapes of the tensors first: `vocab_size` is the length of the token tables.
        plain_checkpoint(folder, &model, k)?;
        let prompt_folder = Arc::new(prompt_folder(model.colm(), folder)?);
        let files = prompt_files(&prompt_folder)?;
        // Set once per loader: an engine that is rebooted keeps its model.
        let _ = self.loaded.prompt_folder.set(prompt_folder);
        Ok(Some(files))
    }

    fn load(
        &self,
        json: &str,
        vb: ShardedVarBuilder,
        loading: NormalLoadingMetadata,
        attention: AttentionImplementation,
    ) -> Result<Box<dyn NormalModel + Send + Sync>> {
        if attention != AttentionImplementation::PagedAttention {
            bail!("CoLM supports only the paged KV cache: do not disable PagedAttention");
        }
        let (model, k) = self.model_config(json)?;
        let config = model.colm();
        if let Some(pool) = &self.kv_pool {
            pool.check(config, k, vb.dtype())?;
        }
        gpu::check(config, k, &loading.real_device, self.weight_dtype.unwrap_or(vb.dtype()))?;
        let max_tokens = self.max_tokens(config, k, &loading.real_device, vb.dtype());
        // A poisoned lock is safe to reuse: the value is only ever replaced as a whole.
        let checkpoint = self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        let by_host = loading.loading_isq || mistralrs_quant::get_immediate_isq().is_some();
        let on_cpu = loading.real_device.is_cpu() && !by_host;
        let colm = match checkpoint.filter(|_| on_cpu) {
            Some(checkpoint) => {
                self.load_checkpoint((config, k), &checkpoint, (max_tokens, vb.dtype()))?
            }
            None => self.load_through_host((&model, k), vb, &loading, max_tokens)?,
        };
        if self.quantization.is_some() || quantization(config)?.is_some() {
            try_a_step(&colm, self.quantization)?;
        }
        let metadata = metadata(config, k);
        // Set once per loader: an engine that is rebooted keeps its model.
        let _ = self.loaded.model.set((model.clone(), k));
        let loaded = self.loaded.clone();
        let mapper = loading.mapper;
        Ok(Box::new(HostedColm::new(colm, metadata, mapper, loaded, self.max_drafts)))
    }

    fn load_xlora(
        &self,
        _config: &str,
        _vb: ShardedVarBuilder,
        _lora_config: &[((String, String), LoraConfig)],
        _xlora_config: Option<XLoraConfig>,
        _xlora_ordering: LoraOrdering,
        _normal_loading_metadata: NormalLoadingMetadata,
        _preload_adapters: &Option<HashMap<String, (ShardedVarBuilder, LoraConfig)>>,
    ) -> Result<Box<dyn NormalModel + Send + Sync>> {
        bail!("CoLM does not support X-LoRA")
    }

    fn is_gptx(&self, _config: &str) -> Result<bool> {
        Ok(true)
    }

    fn pages_on_cpu(&self, _config: &str) -> Result<bool> {
        Ok(true)
    }

    fn get_config_repr(&self, json: &str) -> Result<Box<dyn Debug>> {
        Ok(Box::new(self.config(json)?.0.file))
    }
}

impl IsqModelLoader for ColmLoader {
    fn isq_layer_regexes(&self, _config: &str) -> Result<Vec<Regex>> {
        let linears = Projection::ALL.iter().map(|projection| {
            let name = regex::escape(projection.name());
            format!(r"layers\.\d+\.{name}\.chains\.\d+\.(weight|bias)$")
        });
        let head = r"lm_head\.chains\.\d+\.(weight|bias)$".to_string();
        Ok(linears.chain([head]).map(|name| Regex::new(&name)).collect::<Result<_, _>>()?)
    }

    fn immediate_isq_predicates(&self, config: &str) -> Result<Vec<Regex>> {
        self.isq_layer_regexes(config)
    }
}
