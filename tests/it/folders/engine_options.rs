//! Sizes and quantization that the machine or the engine does not support.

use std::path::Path;

use colm::{MatmulPrecision, Quantization};
use colm_checkpoint::safetensors::tensor::TensorView;
use colm_checkpoint::{Dtype, INDEX_FILE};
use colm_testing::engine::{options, start_error};
use colm_testing::folders::shipped;
use serde_json::{json, Value};

use super::model_folder::{Folder, ANSWER, MODEL};

/// RoPE tables cover the sequences that the KV cache can hold, not the whole `max_position_embeddings`.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_context_does_not_allocate_memory() {
    let folder = Folder::new().with("config.json", |json| {
        json["max_position_embeddings"] = json!(100_000_000);
    });
    assert_eq!(folder.answer().await, ANSWER);
    let absurd = Folder::new().with("config.json", |json| {
        json["max_position_embeddings"] = json!(1_000_000_000_000u64);
    });
    absurd.refused(&["config.json", "max_position_embeddings"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kv_cache_larger_than_memory_fails() {
    let options = options(Path::new(&shipped(MODEL))).kv_cache_mib(1 << 30);
    let error = start_error(&options).await;
    assert!(error.contains("`kv_cache_mib`") && error.contains("MiB are available"), "{error}");
}

#[test]
fn a_quantization_that_cannot_be_multiplied_is_refused() {
    for text in ["fp8", "q9", ""] {
        let error = text.parse::<Quantization>().unwrap_err().to_string();
        assert!(error.contains("expected q4_0") && error.contains("q8_0"), "{text}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unquantized_weights_are_not_read_as_quantized() {
    let with = |value: Value| {
        Folder::new().with("config.json", |json| json["quantization_config"] = value)
    };
    assert_eq!(with(Value::Null).answer().await, ANSWER);
    for quantization in [
        json!({"quant_method": "fp8"}),
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
        json!({"quant_method": "new"}),
        json!(5),
    ] {
        with(quantization).refused(&["config.json", "quantization_config"]).await;
    }
}

/// The host multiplies in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn a_precision_of_types_that_the_host_multiplies_is_refused() {
    for (quantization, precision) in
        [("hqq4", MatmulPrecision::Bf16), ("q3k", MatmulPrecision::F32)]
    {
        let options = options(Path::new(&shipped(MODEL)))
            .quantization(quantization.parse::<Quantization>().unwrap())
            .matmul_precision(precision);
        let planned = options.memory_plan().unwrap_err();
        for error in [start_error(&options).await, format!("{:#}", anyhow::Error::from(planned))] {
            let expected = format!("`matmul_precision` {precision}");
            let names_type = error.to_lowercase().contains(quantization);
            assert!(error.contains(&expected) && names_type, "{error}");
        }
    }
}

/// The engine would have to quantize twice.
#[tokio::test(flavor = "multi_thread")]
async fn quantizing_quantized_weights_is_refused() {
    let tensor = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    let name = "model.layers.0.self_attn.q_proj.chains.0.qweight";
    let weights = colm_checkpoint::safetensors::serialize([(name, tensor)], None).unwrap();
    let mut folder = Folder::new().with("config.json", |json| {
        json["quantization_config"] = json!({"quant_method": "gptq", "bits": 4, "group_size": 32});
    });
    for chain in 1..=4 {
        folder = folder.without(&format!("model-chain-0000{chain}-of-00004.safetensors"));
    }
    let folder = folder.without(INDEX_FILE).with_bytes("model.safetensors", &weights);
    for quantization in ["q8_0", "hqq8"] {
        let options =
            options(&folder.path("")).quantization(quantization.parse::<Quantization>().unwrap());
        let planned = options.memory_plan().unwrap_err();
        for error in [start_error(&options).await, format!("{:#}", anyhow::Error::from(planned))] {
            assert!(
                error.contains("quantized already") && error.contains("config.json"),
                "{error}"
            );
        }
    }
    let options_with_precision = options(&folder.path("")).matmul_precision(MatmulPrecision::Bf16);
    let error = start_error(&options_with_precision).await;
    assert!(error.contains("`matmul_precision` bf16") && error.contains("config.json"), "{error}");
    // `colm doctor` does not check the tensors of the host's formats.
    assert!(options(&folder.path("")).memory_plan().unwrap().weights > 0);
}
