//! In-situ quantization, which quantizes one matrix per chain block, at every chain count.

use candle_core::{DType, Tensor};
use colm::{EngineBuilder, Quantization, Request};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::random_model::{self, token_ids, with};
use mistralrs_core::{IsqType, Request as HostRequest};
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

/// The L2 norm of the difference relative to that of `expected`.
pub fn relative_error(expected: &Tensor, found: &Tensor) -> f64 {
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

/// Asserts that in-situ quantization to `isq` changes the logits at every chain count by a relative error of about
/// `error`. All-zero weights would give an error of 1; a bit more or less per weight halves or doubles it.
async fn assert_quantization_error(config: &Value, isq: IsqType, error: f64) {
    let folder = random_model::folder(config);
    let options = options(&folder.path().join("model"));
    let expected = logits(&options).await;
    let quantization = isq.to_string().parse::<Quantization>().unwrap();
    let options = options.quantization(quantization);
    let quantized = logits(&options).await;
    assert_decodes(&options, &quantized).await;
    assert_eq!(expected.len(), quantized.len());
    for (k, (expected, found)) in expected.iter().zip(&quantized).enumerate() {
        let found = relative_error(expected, found);
        assert!(
            0.7 * error < found && found < 1.4 * error,
            "{isq:?} at {} chains: relative error {found}, expected about {error}",
            k + 1
        );
    }
}

/// Asserts that greedy answers begin with the token of the largest logit of the prompt, and go on.
async fn assert_decodes(options: &EngineBuilder, logits: &[Tensor]) {
    let engine = engine(options).await;
    for (k, logits) in engine.chain_counts().zip(logits) {
        let request = Request::tokens(token_ids(48)).chains(k).max_tokens(4);
        let answer = engine.answer(request).await.unwrap();
        let last = logits.get(logits.dim(0).unwrap() - 1).unwrap();
        let largest = last.argmax(0).unwrap().to_scalar::<u32>().unwrap();
        assert!(answer.tokens.first().is_none_or(|token| token.id == largest), "k = {k}");
        assert!(answer.usage.completion_tokens > 0, "k = {k}");
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
    for config in [random_model::air(), random_model::colm()] {
        let config = widths_of_whole_q8_blocks(config);
        assert_quantization_error(&config, IsqType::Q8_0, 0.007).await;
    }
}

/// Blocks of 256 values fit only the widest inputs. The others get another type (`quantized_type`).
#[tokio::test(flavor = "multi_thread")]
async fn q4k_where_the_widths_allow() {
    let config = widths_of_whole_q8_blocks(random_model::air());
    assert_quantization_error(&config, IsqType::Q4K, 0.113).await;
}

/// The widths of the shipped models: the blocks of a layer get several types, and the number of quantization blocks per
/// row is odd in some of them.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_several_types() {
    let config = with(widths_of_whole_q8_blocks(random_model::air()), |json| {
        json["intermediate_size"] = 640.into();
    });
    // The k-quants fit few widths here. Most blocks have the host's replacement, which has about as many bits.
    for (isq, error) in [
        (IsqType::Q4_0, 0.120),
        (IsqType::Q4_1, 0.115),
        (IsqType::Q5_0, 0.059),
        (IsqType::Q5_1, 0.055),
        (IsqType::Q2K, 0.124),
        (IsqType::Q3K, 0.121),
        (IsqType::Q4K, 0.115),
        (IsqType::Q5K, 0.059),
        (IsqType::Q6K, 0.055),
    ] {
        assert_quantization_error(&config, isq, error).await;
    }
}

/// Types that the host multiplies, in prefill and in decode.
#[tokio::test(flavor = "multi_thread")]
async fn types_of_the_host() {
    let config = with(random_model::air(), |json| {
        json["hidden_size"] = 512.into();
        json["intermediate_size"] = 1024.into();
        json["head_dim"] = 64.into();
    });
    for (isq, error) in [
        (IsqType::Q2K, 0.22),
        (IsqType::Q3K, 0.148),
        (IsqType::Q8_1, 0.012),
        (IsqType::Q8K, 0.014),
        (IsqType::HQQ4, 0.115),
        (IsqType::HQQ8, 0.0064),
        (IsqType::MXFP4, 0.353),
        (IsqType::F8Q8, 0.041),
        (IsqType::AFQ4, 0.119),
        (IsqType::AFQ8, 0.0067),
    ] {
        assert_quantization_error(&config, isq, error).await;
    }
}

/// All blocks of all layers have the same type, for which our kernels are used.
#[tokio::test(flavor = "multi_thread")]
async fn k_quants_of_whole_blocks() {
    let config = with(random_model::air(), |json| {
        json["hidden_size"] = 1024.into();
        json["intermediate_size"] = 1024.into();
        json["head_dim"] = 128.into();
    });
    for (isq, error) in [(IsqType::Q4K, 0.104), (IsqType::Q5K, 0.052), (IsqType::Q6K, 0.025)] {
        assert_quantization_error(&config, isq, error).await;
    }
}

/// As in Qwen2. The errors are those of the weights: biases are not quantized.
#[tokio::test(flavor = "multi_thread")]
async fn layers_with_biases() {
    let config = with(widths_of_whole_q8_blocks(random_model::colm()), |json| {
        (json["attention_bias"], json["mlp_bias"]) = (true.into(), true.into());
    });
    for (isq, error) in [
        (IsqType::Q8_0, 0.007),
        (IsqType::Q5_1, 0.055),
        (IsqType::Q4_0, 0.120),
        (IsqType::Q4K, 0.115),
        (IsqType::Q2K, 0.124),
    ] {
        assert_quantization_error(&config, isq, error).await;
    }
}

/// Weights that were packed for the kernels can be quantized later.
#[tokio::test(flavor = "multi_thread")]
async fn quantization_of_a_running_engine() {
    let folder = random_model::folder(&widths_of_whole_q8_blocks(random_model::air()));
    let options = options(&folder.path().join("model")).prefix_cache(false);
    let engine = engine(&options).await;
    let tokens: Vec<u32> = (0..20).collect();
    let before = engine.logits(tokens.clone(), chain_count(3)).await.unwrap();
    engine.host().get_sender(None).unwrap().send(HostRequest::ReIsq(IsqType::Q8_0)).await.unwrap();
    let after = engine.logits(tokens, chain_count(3)).await.unwrap();
    let error = relative_error(&before, &after);
    assert!(0.007 < error && error < 0.02, "relative error {error}");
}
