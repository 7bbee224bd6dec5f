//! After `colm::register()` the host's own loader loads CoLM checkpoints.

use colm_testing::engine::load_with_host;
use colm_testing::random_model;
use mistralrs_core::{
    MemoryGpuConfig, ModelDType, NormalLoaderBuilder, NormalSpecificConfig, PagedAttentionConfig,
    PagedCacheType,
};

fn load(folder: &str, paged: bool) -> Result<(), String> {
    let loader = NormalLoaderBuilder::new(
        NormalSpecificConfig::default(),
        None,
        None,
        Some(folder.into()),
        false,
        None,
    );
    let loader = loader.build(None).unwrap();
    let paging =
        PagedAttentionConfig::new(Some(16), MemoryGpuConfig::MbAmount(16), PagedCacheType::Auto)
            .unwrap();
    let pipeline = load_with_host(&*loader, ModelDType::F32, None, paged.then_some(paging));
    pipeline.map(|_| ()).map_err(|error| format!("{error:#}"))
}

#[test]
fn the_hosts_loader_finds_registered_architectures() {
    let folder = random_model::folder(&random_model::air());
    let folder = folder.path().join("model").to_string_lossy().into_owned();
    colm::register();
    load(&folder, true).unwrap();
    let error = load(&folder, false).unwrap_err();
    assert!(error.contains("PagedAttention"), "{error}");
}

/// The host's build script does not take the revision of this repository for its own. If it did, each commit would
/// rebuild the host.
#[test]
fn the_host_is_built_without_a_git_revision() {
    assert_eq!(mistralrs_core::MISTRALRS_GIT_REVISION, "unknown");
}
