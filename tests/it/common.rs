//! What several test modules need.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use colm::{ChainCount, Engine, EngineBuilder};
use mistralrs_core::{
    DeviceMapMetadata, DeviceMapSetting, Loader, ModelDType, PagedAttentionConfig, Pipeline,
    TokenSource,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// The folder of golden cases.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folder of a model that ships.
pub fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    folder.to_string_lossy().into_owned()
}

/// A copy of a golden case that the engine can load: with a tokenizer beside it.
pub fn model_folder(case: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for tokenizer in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden().join(tokenizer), folder.path().join(tokenizer)).unwrap();
    }
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// The defaults for a folder, with a KV cache that suits tests.
pub fn options(folder: &Path) -> EngineBuilder {
    Engine::builder(folder.to_string_lossy()).kv_cache_mib(16)
}

/// k chains of a model that has at least as many.
pub fn chain_count(k: usize) -> ChainCount {
    ChainCount::new(k, k).unwrap()
}

/// A running engine.
pub async fn engine(options: &EngineBuilder) -> Engine {
    let started = options.clone().start().await;
    started.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::new(error)))
}

/// Why no engine starts with `options`.
pub async fn start_error(options: &EngineBuilder) -> String {
    match options.clone().start().await {
        Ok(_) => panic!("started with {options:?}"),
        Err(error) => format!("{:#}", anyhow::Error::new(error)),
    }
}

/// Loads what `loader` was built for as the host does: in f32 on the CPU, every layer on one device.
pub fn load_with_host(
    loader: &dyn Loader,
    paging: Option<PagedAttentionConfig>,
) -> anyhow::Result<Arc<Mutex<dyn Pipeline + Send + Sync>>> {
    loader.load_model_from_hf(
        None,
        TokenSource::None,
        &ModelDType::F32,
        &Device::Cpu,
        true,
        DeviceMapSetting::Map(DeviceMapMetadata::dummy()),
        None,
        paging,
    )
}
