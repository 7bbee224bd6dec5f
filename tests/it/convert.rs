//! Checkpoints that `colm-convert` writes give the same logits in the engine as their source.

use std::path::Path;

use candle_core::Tensor;
use colm_checkpoint::convert::{
    as_llama, expand, extract, to_chain_layout, to_dense_layout, ConversionPlan, Growth, Init,
};
use colm_checkpoint::{Chains, Layout, Source};
use colm_testing::comparison::largest_magnitude;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::host_llama;
use colm_testing::random_model::{self, token_ids, with};
use mistralrs_core::ModelDType;
use serde_json::{json, Value};

use crate::llama::host_logits;

fn tokens() -> Vec<u32> {
    token_ids(60)
}

fn numbers(logits: &Tensor) -> Vec<f32> {
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// The logits of every row at `k` chains.
async fn logits(folder: &Path, chains: impl IntoIterator<Item = usize>) -> Vec<Vec<f32>> {
    let options = options(folder).prefix_cache(false);
    let engine = engine(&options).await;
    let mut all = Vec::new();
    for k in chains {
        all.push(numbers(&engine.logits(tokens(), chain_count(k)).await.unwrap()));
    }
    all
}

fn write(source: &Source, plan: &ConversionPlan, dir: &Path) {
    plan.write(source, dir, false, |_| ()).unwrap();
}

/// The model of `config`, in both layouts.
fn both_layouts(config: &Value) -> (tempfile::TempDir, [Source; 2]) {
    let folder = random_model::folder(config);
    let chains = Source::open(&folder.path().join("model")).unwrap();
    let dense = folder.path().join("dense");
    write(&chains, &to_dense_layout(&chains).unwrap(), &dense);
    let dense = Source::open(&dense).unwrap();
    (folder, [chains, dense])
}

#[tokio::test(flavor = "multi_thread")]
async fn unpacked_and_packed_models_are_the_same() {
    let (folder, [chains, dense]) = both_layouts(&random_model::air());
    let packed = folder.path().join("packed");
    write(&dense, &to_chain_layout(&dense).unwrap(), &packed);
    let expected = logits(chains.dir(), 1..=4).await;
    assert_eq!(logits(dense.dir(), 1..=4).await, expected);
    assert_eq!(logits(&packed, 1..=4).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extracted_model_equals_the_full_model_at_its_chains() {
    for config in [random_model::air(), random_model::colm()] {
        let (folder, sources) = both_layouts(&config);
        let expected = logits(sources[0].dir(), 1..=4).await;
        for (source, layout) in sources.iter().zip([Layout::Chains, Layout::Dense]) {
            for k in source.config().chains.counts() {
                let small = folder.path().join(format!("{layout:?}-{k}"));
                write(source, &extract(source, k, layout).unwrap(), &small);
                let found = logits(&small, 1..=k.get()).await;
                assert_eq!(found, expected[..k.get()], "{k} chains, {layout:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_loads_the_first_chain_as_a_llama() {
    for config in [random_model::air(), random_model::colm()] {
        // The host's Llama has no head_dim field: hidden_size / num_attention_heads.
        let config = with(config, |json| json["head_dim"] = json!(8));
        let (folder, [chains, _]) = both_layouts(&config);
        let llama = folder.path().join("llama");
        write(&chains, &as_llama(&chains).unwrap(), &llama);
        let host = host_llama::engine(&llama, ModelDType::F32, None, 1).await.unwrap();
        let expected = &logits(chains.dir(), [1]).await[0];
        let found = numbers(&host_logits(&host, tokens()).await);
        assert_eq!(expected.len(), found.len());
        let difference = largest_magnitude(expected.iter().zip(&found).map(|(x, y)| x - y));
        assert!(difference <= 1e-4, "logits differ by {difference}");
    }
}

/// The expanded model has the base's logits at the base's chain counts, and those of the full base at larger counts.
async fn assert_expanded_equals_base(config: &Value, ratios: &[usize]) {
    let (folder, sources) = both_layouts(config);
    let base = sources[0].config();
    let count = base.chains.count();
    let growth = Growth::Ratios(Chains::new(ratios.to_vec()).unwrap());
    let mut expected = logits(sources[0].dir(), 1..=count).await;
    expected.resize(ratios.len(), expected[count - 1].clone());
    for (source, layout) in sources.iter().zip([Layout::Chains, Layout::Dense]) {
        let plan = expand(source, &growth, base.architecture, Init::Zero, 7, layout).unwrap();
        let big = folder.path().join(format!("big-{layout:?}"));
        write(source, &plan, &big);
        let found = logits(&big, 1..=ratios.len()).await;
        assert!(found == expected, "{ratios:?}, {layout:?}: logits differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrained_expanded_model_equals_its_base() {
    for config in [random_model::air(), random_model::colm()] {
        for tied in [false, true] {
            let config = with(config.clone(), |json| {
                json["chains"] = json!([1]);
                json["tie_word_embeddings"] = tied.into();
            });
            assert_expanded_equals_base(&config, &[2, 1, 1]).await;
        }
        assert_expanded_equals_base(&config, &[1, 1, 1, 1, 2]).await;
    }
}
