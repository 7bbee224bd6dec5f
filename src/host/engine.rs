//! Builds the mistral.rs engine around a CoLM checkpoint.

use std::path::Path;
use std::sync::Arc;

use anyhow::{anyhow, bail, Context, Result};
use candle_core::Device;
use colm_checkpoint::{files_for, ColmConfig};
use colm_prompt::panics::catch;
use colm_prompt::SamplingDefaults;
use mistralrs_core::{
    AdapterPaths, DeviceMapMetadata, DeviceMapSetting, IsqType, LocalModelPaths, MemoryGpuConfig,
    MistralRs, MistralRsBuilder, ModelDType, ModelPaths, NormalLoaderBuilder, NormalSpecificConfig,
    PagedAttentionConfig, PagedCacheType, SchedulerConfig,
};

use super::chain_choice::model_id_at;
use super::counters::Counts;
use super::find::find_model;
use super::gpu;
use super::grammar::GrammarCompiler;
use super::kv_pool::KvPool;
use super::loader::{chains_to_load, ColmLoader, Loaded};
use super::prompt::Prompts;
use super::vocabulary::Vocabulary;

/// What to load and how to run it.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// A folder, or a Hugging Face model id.
    pub model: String,
    /// How many chains to read, open and hold; all if None.
    pub max_chains: Option<usize>,
    /// How many sequences run at once.
    pub max_seqs: usize,
    /// MiB of KV cache.
    pub kv_cache_mb: usize,
    /// Positions per KV block: 8, 16 or 32.
    pub block_size: usize,
    /// Run on the CPU, although this build could run on a GPU.
    pub cpu: bool,
    /// Dtype of weights and KV cache. None: f32 on the CPU, the host's choice elsewhere.
    pub dtype: Option<ModelDType>,
    /// In-situ quantization of the linear layers.
    pub isq: Option<IsqType>,
    /// Self-speculation: the most tokens that the first chain drafts for the others to check at once; none if
    /// 0. The answers are the same.
    pub drafts: usize,
    /// Whether requests are sampled as the model's generation_config.json says, in what they leave out.
    pub generation_config: bool,
    /// Whether prompts reuse the blocks of earlier ones.
    pub prefix_cache: bool,
    /// Whether all memory of the KV cache is taken at the start, so that a server that has started never
    /// runs out of it. Otherwise the system gives it as blocks are used.
    pub reserve_kv_cache: bool,
    /// Whether answers go on past the model's end-of-text tokens, for measurements of a set length.
    pub ignore_eos: bool,
}

impl EngineOptions {
    /// The defaults for `model`.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            max_chains: None,
            max_seqs: 32,
            kv_cache_mb: 512,
            block_size: 32,
            cpu: false,
            dtype: None,
            isq: None,
            drafts: 0,
            generation_config: true,
            prefix_cache: true,
            reserve_kv_cache: false,
            ignore_eos: false,
        }
    }
}

/// A running engine with one model, that answers at every chain count. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    host: Arc<MistralRs>,
    name: String,
    loaded: Arc<Loaded>,
    prompts: Prompts,
    sampling_defaults: SamplingDefaults,
    grammars: Arc<GrammarCompiler>,
}

impl Engine {
    /// Loads the model and starts the engine's thread. Needs a multi-threaded tokio runtime.
    ///
    /// Fails if the folder, its config or its weights are not right, or the KV cache is too small.
    pub async fn start(options: &EngineOptions) -> Result<Self> {
        if options.max_seqs == 0 {
            bail!("--max-seqs 0: no request could ever run, expected 1 or more");
        }
        let (name, folder) = find_model(options)?;
        let device = device(options)?;
        gpu::check_block_size(options.block_size, &device)?;
        let loaded = Arc::new(Loaded::default());
        let kv_pool = KvPool { mib: options.kv_cache_mb, block_size: options.block_size };
        let loader = ColmLoader {
            max_chains: options.max_chains,
            kv_pool: Some(kv_pool),
            isq: options.isq,
            drafts: options.drafts,
            loaded: loaded.clone(),
        };
        let loader = NormalLoaderBuilder::new(
            NormalSpecificConfig::default(),
            None,
            None,
            Some(name.clone()),
            false,
            None,
        )
        .build_with(Box::new(loader));
        let dtype = options.dtype.unwrap_or(match device {
            Device::Cpu => ModelDType::F32,
            _ => ModelDType::Auto,
        });
        let paging = PagedAttentionConfig::new(
            Some(options.block_size),
            MemoryGpuConfig::MbAmount(options.kv_cache_mb),
            PagedCacheType::Auto,
        )?;
        let pipeline = tokio::task::block_in_place(|| {
            let paths = paths(&folder, options.max_chains)?;
            let load = || {
                loader.load_model_from_path(
                    &paths,
                    &dtype,
                    &device,
                    true,
                    DeviceMapSetting::Map(DeviceMapMetadata::dummy()),
                    options.isq,
                    Some(paging),
                )
            };
            catch(load).unwrap_or_else(|panic| Err(anyhow!("the engine has failed: {panic}")))
        })
        .with_context(|| format!("cannot load {}", options.model))?;
        // The host leaves its quantization on the thread, for whatever is loaded there next.
        mistralrs_quant::clear_immediate_isq();
        let metadata = pipeline.lock().await.get_metadata();
        if options.reserve_kv_cache {
            let cache = metadata.cache_engine.as_ref();
            let cache = cache.context("the engine has not paged the KV cache")?;
            for (keys, values) in cache.get_kv_cache().iter() {
                // Memory that was never written is only promised.
                keys.zero_set()?;
                values.zero_set()?;
            }
        }
        let folder = loaded.prompt_folder().context("the loader has read no folder")?.clone();
        let tokens = metadata.tok_env().context("the tokenizer has no tokens")?;
        let vocabulary = Vocabulary::new(folder.clone(), tokens);
        let sampling_defaults = match options.generation_config {
            true => folder.sampling_defaults.clone(),
            false => SamplingDefaults::default(),
        };
        let prompts = Prompts::new(vocabulary, folder, metadata.max_seq_len);
        let grammars = metadata.llg_factory.clone().context("the tokenizer has no grammars")?;
        let mut cache = metadata.cache_config.clone();
        let cache = cache.as_mut().context("the engine has not paged the KV cache")?;
        cache.ragged_batches = true;
        let scheduler = SchedulerConfig::PagedAttentionMeta {
            max_num_seqs: options.max_seqs,
            config: cache.clone(),
        };
        let host = MistralRsBuilder::new(pipeline, scheduler, false, None)
            .with_model_id(&name)
            .with_no_prefix_cache(!options.prefix_cache)
            .with_disable_eos_stop(options.ignore_eos)
            .build()
            .await;
        let grammars = Arc::new(GrammarCompiler::new(grammars));
        let engine = Self { host, name, loaded, prompts, sampling_defaults, grammars };
        for k in 1..=engine.chains() {
            let alias = model_id_at(&engine.name, k);
            let registered = engine.host.register_model_alias(&alias, &engine.name);
            registered.map_err(anyhow::Error::msg).with_context(|| format!("model id {alias}"))?;
        }
        Ok(engine)
    }

    /// The host's engine, for its front ends.
    pub fn host(&self) -> &Arc<MistralRs> {
        &self.host
    }

    /// NAME, under which the model is served; `NAME@k` is the model at k chains.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The config of the model.
    pub fn config(&self) -> &ColmConfig {
        self.model().0
    }

    /// The number of chains loaded.
    pub fn chains(&self) -> usize {
        self.model().1
    }

    /// The longest sequence it takes, in tokens: the model's context, or what the KV cache holds.
    pub fn max_tokens(&self) -> usize {
        let known = self.host.max_sequence_length(None).ok().flatten();
        known.unwrap_or(self.config().file.max_position_embeddings)
    }

    /// How tokens are chosen where a request does not say it: as generation_config.json says, if the engine was
    /// started with it. For front ends; a [`Request`](crate::Request) says all of it.
    pub fn sampling_defaults(&self) -> &SamplingDefaults {
        &self.sampling_defaults
    }

    /// What the model has computed and reused so far.
    pub fn counts(&self) -> Counts {
        self.loaded.counters().now()
    }

    pub(crate) fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    pub(super) fn grammars(&self) -> &GrammarCompiler {
        &self.grammars
    }

    /// The model's tokens.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.prompts.vocabulary
    }

    fn model(&self) -> (&ColmConfig, usize) {
        self.loaded.model().expect("start() has loaded a model")
    }
}

/// The files of the model in `folder`. The host reads config.json; the loader, the others.
fn paths(folder: &Path, max_chains: Option<usize>) -> Result<Box<dyn ModelPaths>> {
    let config_file = folder.join("config.json");
    let config = ColmConfig::read(&config_file)?;
    let k = chains_to_load(&config, max_chains)?;
    Ok(Box::new(LocalModelPaths::new(
        folder.join("tokenizer.json"),
        config_file,
        folder.join("tokenizer_config.json"),
        files_for(folder, &config, config.chain_count(k)?)?,
        AdapterPaths::None,
        None,
        None,
        None,
        None,
    )))
}

/// The first GPU, in a build with CUDA.
fn device(options: &EngineOptions) -> Result<Device> {
    if options.cpu || cfg!(not(feature = "cuda")) {
        return Ok(Device::Cpu);
    }
    Device::new_cuda(0).context("this build runs on a GPU and found none; --cpu runs on the CPU")
}
