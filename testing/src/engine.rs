//! Engines of colm, and models loaded with the host's own loader.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use colm::{ChainCount, Engine, EngineBuilder};
use mistralrs_core::{
    DeviceMapMetadata, DeviceMapSetting, Loader, ModelDType, PagedAttentionConfig, Pipeline,
    TokenSource,
};
use mistralrs_quant::IsqType;
use tokio::sync::Mutex;

/// The default settings for the model in `folder`, with a KV cache of 16 MiB.
pub fn options(folder: &Path) -> EngineBuilder {
    Engine::builder(folder.to_string_lossy()).kv_cache_mib(16)
}

/// The chain count `k`, for a model that has at least `k` chains.
pub fn chain_count(k: usize) -> ChainCount {
    ChainCount::new(k, k).unwrap()
}

/// A running engine.
///
/// # Panics
/// If the engine does not start.
pub async fn engine(options: &EngineBuilder) -> Engine {
    let started = options.clone().start().await;
    started.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::new(error)))
}

/// The error of an engine that does not start.
///
/// # Panics
/// If the engine starts.
pub async fn start_error(options: &EngineBuilder) -> String {
    match options.clone().start().await {
        Ok(_) => panic!("started with {options:?}"),
        Err(error) => format!("{:#}", anyhow::Error::new(error)),
    }
}

/// Loads a model with the host's `loader` on the CPU, all layers on one device.
pub fn load_with_host(
    loader: &dyn Loader,
    dtype: ModelDType,
    isq: Option<IsqType>,
    paging: Option<PagedAttentionConfig>,
) -> anyhow::Result<Arc<Mutex<dyn Pipeline + Send + Sync>>> {
    loader.load_model_from_hf(
        None,
        TokenSource::None,
        &dtype,
        &Device::Cpu,
        true,
        DeviceMapSetting::Map(DeviceMapMetadata::dummy()),
        isq,
        paging,
    )
}
