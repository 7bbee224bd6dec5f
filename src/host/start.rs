//! Starts the mistral.rs engine around a CoLM checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, bail, Context};
use candle_core::{DType, Device, Tensor};
use colm_checkpoint::panics::catch;
use colm_checkpoint::ModelConfig;
use colm_prompt::SamplingDefaults;
use mistralrs_core::ext::SharedBlockStore;
use mistralrs_core::{
    AdapterPaths, DeviceMapMetadata, DeviceMapSetting, LocalModelPaths, MemoryGpuConfig,
    MistralRsBuilder, ModelDType, ModelPaths, NormalLoaderBuilder, NormalSpecificConfig,
    PagedAttentionConfig, PagedCacheType, Pipeline, SchedulerConfig,
};
use tokio::sync::Mutex;

use super::chain_choice::model_id_at;
use super::dtype::{Dtype, Quantization};
use super::engine::Engine;
use super::engine_builder::EngineBuilder;
use super::find::find_model;
use super::gpu;
use super::grammar::GrammarCompiler;
use super::kv_pool::KvPool;
use super::kv_tier::{KvIdentity, KvTier};
use super::loaded::Loaded;
use super::loader::{chains_to_load, ColmLoader};
use super::prompt::Prompts;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

impl EngineBuilder {
    pub(super) async fn load_and_start(self) -> anyhow::Result<Engine> {
        let began = Instant::now();
        colm_kernels::check_isa_limit()?;
        let device = self.device()?;
        gpu::check_block_size(self.block_size, &device)?;
        self.check_matmul_precision(&device)?;
        let (name, model_folder) = find_model(&self.model, self.max_chains)?;
        let loaded = Arc::new(Loaded::named(&name));
        let load = || self.load(&name, &model_folder, &device, loaded.clone());
        let pipeline = tokio::task::block_in_place(load)?;
        let metadata = pipeline.lock().await.get_metadata();
        let mut cache = metadata.cache_config.clone();
        let cache = cache.as_mut().context("the engine has not paged the KV cache")?;
        cache.ragged_batches = true;
        cache.prefill_chunk = Some(self.prefill_chunk);
        let pool = metadata.cache_engine.as_ref().map(|cache| cache.get_kv_cache().clone());
        let pool = pool.context("the engine has not paged the KV cache")?;
        if self.reserve_kv_cache {
            write_all(&pool)?;
        }
        let open_store = || self.kv_tier(&model_folder, &device, &loaded, &pool);
        let kv_tier = tokio::task::block_in_place(open_store)?;
        cache.block_store = kv_tier.clone().map(|tier| SharedBlockStore(tier));
        let folder = loaded.prompt_folder().context("the loader has read no folder")?.clone();
        let tokens = metadata.tok_env().context("the tokenizer has no tokens")?;
        let vocabulary = Vocabulary::new(folder.clone(), tokens);
        let sampling_defaults = if self.generation_config {
            folder.sampling_defaults.clone()
        } else {
            SamplingDefaults::default()
        };
        let prompts = Prompts::new(vocabulary, folder, metadata.max_seq_len);
        let grammars = metadata.llg_factory.clone().context("the tokenizer has no grammars")?;
        let grammars = Arc::new(GrammarCompiler::new(grammars));
        let scheduler = SchedulerConfig::PagedAttentionMeta {
            max_num_seqs: self.max_seqs,
            config: cache.clone(),
        };
        let host = MistralRsBuilder::new(pipeline, scheduler, false, None)
            .with_model_id(&name)
            .with_no_prefix_cache(!self.prefix_cache)
            .with_disable_eos_stop(self.ignore_eos)
            .build()
            .await;
        let engine = Engine {
            host,
            name,
            loaded,
            prompts,
            sampling_defaults,
            grammars,
            max_seqs: self.max_seqs,
            block_size: self.block_size,
            load_time: began.elapsed(),
            scheduler: cache.stats.clone(),
            kv_tier,
        };
        engine.register_aliases()?;
        Ok(engine)
    }

    /// Opens the KV store, if there is one, for the model that is loaded.
    fn kv_tier(
        &self,
        folder: &Path,
        device: &Device,
        loaded: &Arc<Loaded>,
        pool: &[(Tensor, Tensor)],
    ) -> anyhow::Result<Option<Arc<KvTier>>> {
        let Some(options) = &self.kv_store else { return Ok(None) };
        let weights = self.weight_dtype().unwrap_or(DType::F32);
        if colm_kernels::uses_gpu_kernels(device, weights) {
            bail!("`kv_store`: the KV cache is in the memory of a GPU, from which blocks are not stored; expected `cpu` true");
        }
        let (model, k) = loaded.model.get().context("the loader has read no config")?;
        let checkpoint = model.open(folder, *k)?;
        let kv_dtype = pool.first().map(|(keys, _)| keys.dtype());
        let identity = KvIdentity::of(model.colm(), &checkpoint, &self.held_as(kv_dtype))?;
        loaded.kv_identity.set(identity).map_err(|_| anyhow!("the model is loaded twice"))?;
        let tier = KvTier::open(options, loaded.clone(), pool, self.block_size)?;
        Ok(Some(Arc::new(tier)))
    }

    /// How weights, keys and values are held and computed, as far as the bits of keys and values depend on it.
    fn held_as(&self, kv_dtype: Option<DType>) -> String {
        format!(
            "format {}, {}, quantization {:?}, weights {:?}, KV {:?}, blocks of {}",
            colm_kv_store::FORMAT_VERSION,
            colm_kernels::rounding(self.matmul_precision.unwrap_or_default()),
            self.quantization,
            self.weight_dtype(),
            kv_dtype,
            self.block_size,
        )
    }

    fn load(
        &self,
        name: &str,
        folder: &Path,
        device: &Device,
        loaded: Arc<Loaded>,
    ) -> anyhow::Result<Arc<Mutex<dyn Pipeline + Send + Sync>>> {
        // On the CPU the kernels quantize to the types that they support.
        let on_kernels =
            |quantization: &Quantization| device.is_cpu() && quantization.ggml().is_some();
        let isq = self.quantization.filter(|quantization| !on_kernels(quantization));
        let isq = isq.map(Quantization::isq);
        let loader = self.loader(loaded);
        let loader = NormalLoaderBuilder::new(
            NormalSpecificConfig::default(),
            None,
            None,
            Some(name.to_string()),
            false,
            None,
        )
        .build_with(Box::new(loader));
        let dtype = self.host_dtype(device)?;
        let paging = PagedAttentionConfig::new(
            Some(self.block_size),
            MemoryGpuConfig::MbAmount(self.kv_cache_mib),
            PagedCacheType::Auto,
        )?;
        let paths = paths(folder, self.max_chains)?;
        let device_map = DeviceMapSetting::Map(DeviceMapMetadata::dummy());
        let load = || {
            loader.load_model_from_path(&paths, &dtype, device, true, device_map, isq, Some(paging))
        };
        let pipeline = catch(load);
        // The host leaves the quantization in a thread-local variable, where the next load would find it.
        mistralrs_quant::clear_immediate_isq();
        pipeline.unwrap_or_else(|panic| Err(anyhow!("the engine has failed: {panic}")))
    }

    pub(super) fn loader(&self, loaded: Arc<Loaded>) -> ColmLoader {
        let kv_pool = KvPool { mib: self.kv_cache_mib, block_size: self.block_size };
        ColmLoader {
            max_chains: self.max_chains,
            kv_pool: Some(kv_pool),
            quantization: self.quantization,
            weight_dtype: self.weight_dtype(),
            matmul_precision: self.matmul_precision,
            progress_bar: self.progress_bar,
            max_drafts: self.max_drafts,
            loaded,
            checkpoint: Default::default(),
        }
    }

    /// The dtype of weights on the CPU; None: as stored. The host quantizes from f32. The twin runs the CUDA kernels on
    /// bf16 and f16, and only if they are asked for.
    fn weight_dtype(&self) -> Option<DType> {
        let by_host = self.quantization.is_some_and(|quantization| quantization.ggml().is_none());
        let in_f32 = by_host || cfg!(feature = "twin");
        self.dtype.fixed().or(in_f32.then_some(DType::F32))
    }

    /// The dtype that the host allocates the KV cache in, and on a GPU loads weights in.
    pub(super) fn host_dtype(&self, device: &Device) -> Result<ModelDType> {
        let of_weights = self.weight_dtype().unwrap_or(DType::F32);
        if device.is_cpu() && !colm_kernels::uses_gpu_kernels(device, of_weights) {
            return Ok(self.kv_cache_dtype.for_host(device));
        }
        if ![Dtype::Auto, self.dtype].contains(&self.kv_cache_dtype) {
            return Err(Error::InvalidOption {
                option: "kv_cache_dtype",
                value: self.kv_cache_dtype.to_string(),
                problem: "on a GPU the KV cache has the dtype of the weights, expected the same as `dtype`".into(),
            });
        }
        Ok(self.dtype.for_host(device))
    }

    /// Fails if a precision is asked for that has no effect.
    pub(super) fn check_matmul_precision(&self, device: &Device) -> Result<()> {
        let Some(precision) = self.matmul_precision else { return Ok(()) };
        let invalid = |problem: String| {
            Err(Error::InvalidOption {
                option: "matmul_precision",
                value: precision.to_string(),
                problem: format!("{problem}, expected no `matmul_precision`"),
            })
        };
        let weights = self.weight_dtype().unwrap_or(DType::F32);
        if !device.is_cpu() || colm_kernels::uses_gpu_kernels(device, weights) {
            return invalid("on a GPU activations have the dtype of the weights".into());
        }
        match self.quantization.filter(|quantization| quantization.ggml().is_none()) {
            Some(quantization) => invalid(format!(
                "the host (mistral.rs) multiplies weights of {quantization} in its own precision"
            )),
            None => Ok(()),
        }
    }

    /// The first GPU in a build with CUDA, else the CPU.
    pub(super) fn device(&self) -> anyhow::Result<Device> {
        if self.cpu || cfg!(not(feature = "cuda")) {
            return Ok(Device::Cpu);
        }
        Device::new_cuda(0)
            .context("this build runs on a GPU and found none; `cpu` runs the model on the CPU")
    }
}

/// Writes zeros to the whole KV cache: the system provides memory when it is written for the first time.
fn write_all(pool: &[(Tensor, Tensor)]) -> candle_core::Result<()> {
    pool.iter().try_for_each(|(keys, values)| {
        keys.zero_set()?;
        values.zero_set()
    })
}

impl Engine {
    /// Makes `NAME@k` a model id of the host, for each k.
    fn register_aliases(&self) -> anyhow::Result<()> {
        for k in self.chain_counts() {
            let alias = model_id_at(&self.name, k);
            let registered = self.host.register_model_alias(&alias, &self.name);
            registered.map_err(anyhow::Error::msg).with_context(|| format!("model id {alias}"))?;
        }
        Ok(())
    }
}

/// The files of the model in `folder`. The host reads config.json; the loader reads the others.
fn paths(folder: &Path, max_chains: Option<usize>) -> anyhow::Result<Box<dyn ModelPaths>> {
    let config_file = folder.join("config.json");
    let model = ModelConfig::read(&config_file)?;
    let k = chains_to_load(model.colm(), max_chains)?;
    Ok(Box::new(LocalModelPaths::new(
        folder.join("tokenizer.json"),
        config_file,
        folder.join("tokenizer_config.json"),
        model.files(folder, k)?,
        AdapterPaths::None,
        None,
        None,
        None,
        None,
    )))
}
