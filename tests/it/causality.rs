//! Logits at k chains do not depend on the weights of later chains, bit for bit (docs/spec.md#chains).

use std::fs;
use std::path::Path;

use colm::EngineBuilder;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::random_model::{self, token_ids};
use serde_json::Value;

fn tokens() -> Vec<u32> {
    token_ids(40)
}

async fn logits(options: &EngineBuilder, k: usize) -> Vec<f32> {
    let options = options.clone().prefix_cache(false);
    let logits = engine(&options).await.logits(tokens(), chain_count(k)).await.unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

async fn assert_independent_of_later_chains(config: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    random_model::write(&original, config, |_| 0);
    for k in 1..4 {
        let expected = logits(&options(&original), k).await;
        let scrambled = folder.path().join(format!("scrambled-above-{k}"));
        random_model::write(&scrambled, config, |tensor| u64::from(tensor.chain >= k));
        assert_eq!(logits(&options(&scrambled), k).await, expected, "{k} chains, others scrambled");
        let all = logits(&options(&original), 4).await;
        assert_ne!(
            logits(&options(&scrambled), 4).await,
            all,
            "other weights change the logits of all chains"
        );

        remove_chains_above(&scrambled, k);
        let first = options(&scrambled).max_chains(k);
        assert_eq!(logits(&first, k).await, expected, "{k} chains, others removed");
    }
}

fn remove_chains_above(folder: &Path, k: usize) {
    for chain in k..4 {
        let file = format!("model-chain-{:05}-of-00004.safetensors", chain + 1);
        fs::remove_file(folder.join(file)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn air() {
    assert_independent_of_later_chains(&random_model::air()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn colm() {
    assert_independent_of_later_chains(&random_model::colm()).await;
}
