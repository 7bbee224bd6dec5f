//! Weights in the dtype they are stored in, and the dtype of the KV cache.

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use colm::{Dtype, EngineBuilder, MatmulPrecision, Quantization};
use colm_checkpoint::convert::cast;
use colm_checkpoint::Source;
use colm_testing::comparison::largest_magnitude;
use colm_testing::engine::{engine, options};
use colm_testing::random_model::{self, token_ids, with};
use serde_json::Value;

use crate::quantized::relative_error;

/// The logits of a prompt at every chain count.
async fn logits(options: EngineBuilder) -> Vec<Vec<f32>> {
    let engine = engine(&options.prefix_cache(false)).await;
    let mut logits = Vec::new();
    for k in engine.chain_counts() {
        let of_prompt: Tensor = engine.logits(token_ids(48), k).await.unwrap();
        logits.push(of_prompt.flatten_all().unwrap().to_vec1().unwrap());
    }
    logits
}

/// Writes the model in `from` to `to`, in `dtype`.
fn write_cast(from: &Path, to: &Path, dtype: colm_checkpoint::Dtype) {
    let source = Source::open(from).unwrap();
    cast(&source, dtype).unwrap().write(&source, to, false, |_| ()).unwrap();
}

fn models() -> [Value; 3] {
    let tied = with(random_model::air(), |json| json["tie_word_embeddings"] = true.into());
    let biased = with(random_model::colm(), |json| {
        (json["attention_bias"], json["mlp_bias"]) = (true.into(), true.into());
    });
    [random_model::air(), tied, biased]
}

/// Nothing is rounded but sums: the same bits, except that AMX adds the products with bf16 weights in another order.
fn assert_same(found: &[Vec<f32>], expected: &[Vec<f32>], dtype: colm_checkpoint::Dtype) {
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let largest = largest_magnitude(pairs.map(|(found, expected)| found - expected));
    let on_amx = colm_kernels::instruction_set().contains("AMX");
    let most = if on_amx && dtype == colm_checkpoint::Dtype::BF16 { 1e-4 } else { 0. };
    assert!(largest <= most, "{dtype:?}: logits differ by {largest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_byte_weights_give_the_answers_of_their_f32_copies() {
    for config in models() {
        let folder = random_model::folder(&config);
        for dtype in [colm_checkpoint::Dtype::BF16, colm_checkpoint::Dtype::F16] {
            let narrow = folder.path().join(format!("{dtype:?}"));
            write_cast(&folder.path().join("model"), &narrow, dtype);
            let stored = logits(options(&narrow)).await;
            let copied = logits(options(&narrow).dtype(Dtype::F32)).await;
            assert_same(&stored, &copied, dtype);
        }
    }
}

/// As after training new chains in f32 on a frozen bf16 model.
#[tokio::test(flavor = "multi_thread")]
async fn chains_may_be_stored_in_different_dtypes() {
    for config in models() {
        let folder = random_model::folder(&config);
        let (wide, mixed) = (folder.path().join("model"), folder.path().join("mixed"));
        write_cast(&wide, &mixed, colm_checkpoint::Dtype::BF16);
        let second = "model-chain-00002-of-00004.safetensors";
        fs::copy(wide.join(second), mixed.join(second)).unwrap();
        let expected = logits(options(&mixed).dtype(Dtype::F32)).await;
        let found = logits(options(&mixed)).await;
        assert_same(&found, &expected, colm_checkpoint::Dtype::BF16);
        // The later chains do not change the bits of the first ones, whatever dtypes they have.
        for quantization in [None, Some("q8_0".parse::<Quantization>().unwrap())] {
            let all = logits(options(&mixed).quantization(quantization)).await;
            for k in 1..=3 {
                let first = options(&mixed).quantization(quantization).max_chains(k);
                assert!(logits(first).await == all[..k], "{quantization:?}, k = {k}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn activations_are_rounded_only_if_asked() {
    for config in models() {
        let folder = random_model::folder(&config);
        let narrow = folder.path().join("bf16");
        write_cast(&folder.path().join("model"), &narrow, colm_checkpoint::Dtype::BF16);
        for quantization in [None, Some("q8_0".parse::<Quantization>().unwrap())] {
            let base = || options(&narrow).quantization(quantization);
            let exact = logits(base()).await;
            assert!(exact == logits(base().matmul_precision(MatmulPrecision::F32)).await);
            let rounded = logits(base().matmul_precision(MatmulPrecision::Bf16)).await;
            // docs/quantization.md has the figure.
            let [exact, rounded] =
                [exact, rounded].map(|logits| Tensor::new(logits.concat(), &Device::Cpu).unwrap());
            let error = relative_error(&exact, &rounded);
            assert!((0.002..0.008).contains(&error), "{quantization:?}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kv_cache_is_f32_unless_asked_otherwise() {
    let folder = random_model::folder(&random_model::air());
    let narrow = folder.path().join("bf16");
    write_cast(&folder.path().join("model"), &narrow, colm_checkpoint::Dtype::BF16);
    let default = logits(options(&narrow)).await;
    assert!(default == logits(options(&narrow).kv_cache_dtype(Dtype::F32)).await);
    for (dtype, most) in [(Dtype::BF16, 0.2), (Dtype::F16, 0.03)] {
        let rounded = logits(options(&narrow).kv_cache_dtype(dtype)).await;
        let pairs = default.iter().flatten().zip(rounded.iter().flatten());
        let largest = largest_magnitude(pairs.map(|(exact, rounded)| exact - rounded));
        assert!(largest > 1e-4 && largest < most, "{dtype}: {largest}");
    }
}
