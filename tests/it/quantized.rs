//! In-situ quantization: one quantized matrix per chain block, at every chain count.

use candle_core::{DType, Tensor};
use colm::{EngineBuilder, Quantization};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::random_model::{self, token_ids, with};
use mistralrs_core::{IsqType, Request};
use serde_json::Value;

async fn logits(options: &EngineBuilder) -> Vec<Tensor> {
    let tokens = token_ids(48);
    let options = options.clone().prefix_cache(false);
    let engine = engine(&options).await;
    let mut logits = Vec::new();
    for k in engine.chain_counts() {
        logits.push(engine.logits(tokens.clone(), k).await.unwrap());
    }
    logits
}

/// The size of the difference against the size of the logits.
fn relative(expected: &Tensor, found: &Tensor) -> f64 {
    let norm = |x: &Tensor| {
        x.to_dtype(DType::F64)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    };
    (norm(&(expected - found).unwrap()) / norm(expected)).sqrt()
}

async fn quantized_stays_close(config: &Value, isq: IsqType, bound: f64) {
    let folder = random_model::folder(config);
    let options = options(&folder.path().join("model"));
    let expected = logits(&options).await;
    let quantized =
        logits(&options.quantization(isq.to_string().parse::<Quantization>().unwrap())).await;
    for (k, (expected, found)) in expected.iter().zip(&quantized).enumerate() {
        let error = relative(expected, found);
        println!("MEASURED {isq:?} k={} {error:.5}", k + 1);
        assert!(error > 0., "{isq:?} at {} chains: nothing was quantized", k + 1);
        assert!(error < bound, "{isq:?} at {} chains: relative error {error}", k + 1);
    }
}

fn widths_of_whole_q8_blocks(config: Value) -> Value {
    with(config, |json| {
        json["hidden_size"] = 256.into();
        json["intermediate_size"] = 512.into();
        json["head_dim"] = 32.into();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn q8_0() {
    quantized_stays_close(&widths_of_whole_q8_blocks(random_model::air()), IsqType::Q8_0, 0.05)
        .await;
    quantized_stays_close(&widths_of_whole_q8_blocks(random_model::colm()), IsqType::Q8_0, 0.05)
        .await;
}

/// Blocks of 256 fit the widest chain prefixes only; for the others the host falls back and says so.
#[tokio::test(flavor = "multi_thread")]
async fn q4k_where_the_widths_allow() {
    quantized_stays_close(&widths_of_whole_q8_blocks(random_model::air()), IsqType::Q4K, 0.5).await;
}

/// The shipped models' widths: a layer's blocks become several types, some of blocks of an odd number, and each
/// chain counts.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_several_types() {
    let config = with(widths_of_whole_q8_blocks(random_model::air()), |json| {
        json["intermediate_size"] = 640.into();
    });
    for (isq, bound) in [
        (IsqType::Q4_0, 0.5),
        (IsqType::Q4_1, 0.5),
        (IsqType::Q5_0, 0.3),
        (IsqType::Q5_1, 0.3),
        (IsqType::Q2K, 1.0),
        (IsqType::Q3K, 0.8),
        (IsqType::Q4K, 0.5),
        (IsqType::Q5K, 0.3),
        (IsqType::Q6K, 0.2),
    ] {
        quantized_stays_close(&config, isq, bound).await;
    }
}

/// Every block of every layer is of one type, so that our kernels have all of them.
#[tokio::test(flavor = "multi_thread")]
async fn k_quants_of_whole_blocks() {
    let config = with(random_model::air(), |json| {
        json["hidden_size"] = 1024.into();
        json["intermediate_size"] = 1024.into();
        json["head_dim"] = 128.into();
    });
    for (isq, bound) in [(IsqType::Q4K, 0.5), (IsqType::Q5K, 0.3), (IsqType::Q6K, 0.2)] {
        quantized_stays_close(&config, isq, bound).await;
    }
}

/// Weights that were packed for the kernels when they were loaded can still be quantized.
#[tokio::test(flavor = "multi_thread")]
async fn quantized_while_it_serves() {
    let folder = random_model::folder(&widths_of_whole_q8_blocks(random_model::air()));
    let options = options(&folder.path().join("model")).prefix_cache(false);
    let engine = engine(&options).await;
    let tokens: Vec<u32> = (0..20).collect();
    let before = engine.logits(tokens.clone(), chain_count(3)).await.unwrap();
    engine.host().get_sender(None).unwrap().send(Request::ReIsq(IsqType::Q8_0)).await.unwrap();
    let after = engine.logits(tokens, chain_count(3)).await.unwrap();
    let error = relative(&before, &after);
    assert!(error > 0. && error < 0.05, "relative error {error}");
}
