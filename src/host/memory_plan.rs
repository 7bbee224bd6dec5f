//! What a model takes, found from its config and the headers of its files.

use std::sync::Arc;

use anyhow::Context;
use candle_core::{DType, Device};
use colm_checkpoint::{ChainCount, ModelConfig};
use mistralrs_core::ModelDType;

use super::engine_builder::EngineBuilder;
use super::find::find_model;
use super::host_types;
use super::kv_pool::{kv_bytes_per_token, KvPool};
use super::loaded::Loaded;
use super::loader::{chains_to_load, plain_checkpoint, prompt_folder};
use super::memory::MachineMemory;
use super::weight_sizes::held_bytes;
use crate::error::{Error, Result};

/// What the options of an engine take, in bytes and tokens, on the CPU.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryPlan {
    /// The name that the model would be served under.
    pub name: String,
    /// The chains that would be loaded.
    pub chains: ChainCount,
    /// The parameters of these chains.
    pub parameters: u128,
    /// Bytes of the weights as they would be held.
    pub weights: usize,
    /// Bytes of the KV cache.
    pub kv_cache: usize,
    /// Bytes of memory that are available now.
    pub available: usize,
    /// How many tokens the KV cache holds, of all sequences together.
    pub kv_tokens: usize,
    /// Bytes of keys and values per token.
    pub kv_bytes_per_token: usize,
    /// The context of the model in tokens.
    pub context: usize,
    /// Whether the model has a chat template. One without continues plain text only.
    pub has_chat_template: bool,
}

impl MemoryPlan {
    /// Whether weights and KV cache fit into the memory that is available.
    pub fn fits(&self) -> bool {
        self.weights.saturating_add(self.kv_cache) <= self.available
    }
}

impl EngineBuilder {
    /// What these options take on the CPU. Reads all files of the model except the weights: of those only the headers.
    ///
    /// # Errors
    /// As [`Self::start`], as far as these files tell.
    pub fn memory_plan(&self) -> Result<MemoryPlan> {
        self.plan().map_err(|error| Error::load(&self.model, error))
    }

    fn plan(&self) -> anyhow::Result<MemoryPlan> {
        self.check_matmul_precision(&Device::Cpu)?;
        let (name, folder) = find_model(&self.model, self.max_chains)?;
        let model = ModelConfig::read(&folder.join("config.json"))?;
        let config = model.colm();
        let k = chains_to_load(config, self.max_chains)?;
        let checkpoint = plain_checkpoint(&folder, &model, k)?;
        let loader = self.loader(Arc::new(Loaded::default()));
        let kv_dtype = match self.host_dtype(&Device::Cpu)? {
            ModelDType::BF16 => DType::BF16,
            ModelDType::F16 => DType::F16,
            _ => DType::F32,
        };
        let pool = KvPool { mib: self.kv_cache_mib, block_size: self.block_size };
        pool.check(config, k, kv_dtype).context("the KV cache")?;
        let by_host = self.quantization.filter(|quantization| quantization.ggml().is_none());
        if let Some(quantization) = by_host {
            host_types::check(config, k, quantization)?;
        }
        let has_chat_template = prompt_folder(config, &folder)?.chat_template.is_some();
        let weights = match &checkpoint {
            Some(checkpoint) if by_host.is_none() => {
                held_bytes(config, checkpoint, loader.weight_dtype, loader.packing())
            }
            _ => {
                model.files(&folder, k)?;
                let quantization = loader.quantization_of(config)?;
                let dtype = loader.weight_dtype.unwrap_or(kv_dtype);
                loader.bytes_of_host(config, k, dtype, quantization.as_ref())
            }
        };
        Ok(MemoryPlan {
            name,
            chains: k,
            parameters: config.parameters(k),
            weights,
            kv_cache: pool.bytes(),
            available: MachineMemory::now().available,
            kv_tokens: pool.tokens(config, k, kv_dtype),
            kv_bytes_per_token: kv_bytes_per_token(config, k, kv_dtype),
            context: config.file.max_position_embeddings,
            has_chat_template,
        })
    }
}
