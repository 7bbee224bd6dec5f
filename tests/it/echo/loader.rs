//! The loader of [`EchoModel`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use anyhow::{bail, Result};
use candle_core::DType;
use mistralrs_core::ext::{
    AttentionImplementation, DeviceMappedModelLoader, IsqModelLoader, KvCacheLayout, LoraConfig,
    ModelConfigLike, ModelConfigMetadata, NormalLoadingMetadata, NormalModel, NormalModelLoader,
    XLoraConfig,
};
use mistralrs_core::matformer::MatformerSliceConfig;
use mistralrs_core::{AutoDeviceMapParams, Ordering};
use mistralrs_quant::ShardedVarBuilder;
use serde::{Deserialize, Serialize};

use super::model::{EchoModel, Seen};

/// Contents of `config.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EchoConfig {
    pub architectures: Vec<String>,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    /// Key size. The model uses the first element only; the others set the size of a block.
    pub head_dim: usize,
}

impl EchoConfig {
    fn metadata(&self) -> ModelConfigMetadata {
        ModelConfigMetadata {
            max_seq_len: self.max_position_embeddings,
            num_layers: 1,
            hidden_size: self.head_dim,
            num_kv_heads: 1,
            num_attn_heads: 1,
            sliding_window: None,
            k_head_dim: self.head_dim,
            v_head_dim: self.head_dim,
            kv_cache_layout: KvCacheLayout::Standard,
        }
    }
}

fn metadata(json: &str) -> Result<ModelConfigMetadata> {
    Ok(serde_json::from_str::<EchoConfig>(json)?.metadata())
}

/// Loads a model that records into `seen`.
pub struct EchoLoader {
    pub seen: Arc<Mutex<Seen>>,
}

impl NormalModelLoader for EchoLoader {
    fn load(
        &self,
        json: &str,
        _vb: ShardedVarBuilder,
        loading: NormalLoadingMetadata,
        attention: AttentionImplementation,
    ) -> Result<Box<dyn NormalModel + Send + Sync>> {
        if attention != AttentionImplementation::PagedAttention {
            bail!("the KV cache is not paged");
        }
        let config: EchoConfig = serde_json::from_str(json)?;
        let metadata = config.metadata();
        Ok(Box::new(EchoModel::new(config.vocab_size, metadata, loading.mapper, self.seen.clone())))
    }

    fn load_xlora(
        &self,
        _config: &str,
        _vb: ShardedVarBuilder,
        _lora_config: &[((String, String), LoraConfig)],
        _xlora_config: Option<XLoraConfig>,
        _xlora_ordering: Ordering,
        _normal_loading_metadata: NormalLoadingMetadata,
        _preload_adapters: &Option<HashMap<String, (ShardedVarBuilder, LoraConfig)>>,
    ) -> Result<Box<dyn NormalModel + Send + Sync>> {
        bail!("no X-LoRA")
    }

    fn is_gptx(&self, _config: &str) -> Result<bool> {
        Ok(true)
    }

    fn pages_on_cpu(&self, _config: &str) -> Result<bool> {
        Ok(true)
    }

    fn get_config_repr(&self, json: &str) -> Result<Box<dyn Debug>> {
        Ok(Box::new(serde_json::from_str::<EchoConfig>(json)?))
    }
}

impl IsqModelLoader for EchoLoader {}

impl DeviceMappedModelLoader for EchoLoader {
    fn mapped_max_act_size_elems(&self, _: &str, _: &AutoDeviceMapParams) -> Result<usize> {
        Ok(0)
    }

    fn non_mapped_max_act_size_elems(&self, _: &str, _: &AutoDeviceMapParams) -> Result<usize> {
        Ok(0)
    }

    fn non_mapped_size_in_bytes(
        &self,
        _config: &str,
        _dtype: DType,
        _weight_pack_factor: usize,
        _matformer: Option<&MatformerSliceConfig>,
    ) -> Result<usize> {
        Ok(0)
    }

    fn layer_sizes_in_bytes(
        &self,
        json: &str,
        _dtype: DType,
        _weight_pack_factor: usize,
        _matformer: Option<&MatformerSliceConfig>,
    ) -> Result<Vec<usize>> {
        Ok(vec![0; self.num_layers(json)?])
    }

    fn num_layers(&self, json: &str) -> Result<usize> {
        Ok(metadata(json)?.num_layers)
    }

    fn model_config(&self, json: &str) -> Result<Box<dyn ModelConfigLike>> {
        Ok(Box::new(metadata(json)?))
    }
}
