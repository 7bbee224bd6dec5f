//! Configs of the Llama family: the equivalent CoLM of one chain, or an error that names the field.

use colm_checkpoint::inspect::inspect;
use colm_checkpoint::{CheckpointError, ColmConfig, Llama3Scaling, Source};
use serde_json::{json, Value};

use crate::folder::Folder;
use colm_testing::small_checkpoint::with;

fn read(json: &Value) -> Result<ColmConfig, CheckpointError> {
    let (config, is_llama) = Source::read_config(&Folder::with_config(json).dir)?;
    assert!(is_llama);
    Ok(config)
}

fn assert_error(json: Value, words: &[&str]) {
    let error = read(&json).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

/// Llama 3.2 1B.
fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3"
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": 128256
    })
}

fn mistral() -> Value {
    json!({
        "architectures": ["MistralForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": null,
        "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
        "vocab_size": 32000
    })
}

fn qwen2() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_position_embeddings": 32768,
        "max_window_layers": 24,
        "model_type": "qwen2",
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_mrope": false,
        "use_sliding_window": false,
        "vocab_size": 151936
    })
}

fn qwen3() -> Value {
    with(qwen2(), |json| {
        json["architectures"] = json!(["Qwen3ForCausalLM"]);
        json["model_type"] = json!("qwen3");
        json["attention_bias"] = json!(false);
        json["hidden_size"] = json!(1024);
        json["num_attention_heads"] = json!(16);
        json["num_key_value_heads"] = json!(8);
    })
}

#[test]
fn qwen_3_has_norms_of_heads_and_its_own_default_of_their_size() {
    let config = read(&qwen3()).unwrap();
    assert!(config.file.qk_norm && !config.file.attention_bias);
    assert_eq!(config.head_dim, 128);
    let config = read(&with(qwen3(), |json| json["head_dim"] = json!(64))).unwrap();
    assert_eq!(config.head_dim, 64);
    assert!(!read(&qwen2()).unwrap().file.qk_norm);
    // Norms of heads are not Llama's.
    let llama = with(llama(), |json| json["qk_norm"] = json!(true));
    assert_error(llama, &["`qk_norm`", "expected false"]);
}

#[test]
fn llama_3_is_one_chain_of_the_same_fields() {
    let config = read(&llama()).unwrap();
    assert_eq!(config.chains.ratios(), [1]);
    assert_eq!((config.heads.total(), config.kv_heads.total(), config.head_dim), (32, 8, 64));
    let expected = Llama3Scaling {
        factor: 32.,
        low_freq_factor: 1.,
        high_freq_factor: 4.,
        original_max_position_embeddings: 8192,
    };
    assert_eq!(config.rope_scaling, Some(expected));
    assert!(config.file.tie_word_embeddings && !config.file.attention_bias);
    assert_eq!(config.file.other["eos_token_id"], 128001);
    assert_eq!(config.file.other["torch_dtype"], "bfloat16");
}

/// The numbers are those of the models' pages.
#[test]
fn public_models_have_their_published_number_of_parameters() {
    let tiny_llama = with(llama(), |json| {
        for field in ["rope_scaling", "head_dim", "rope_theta"] {
            json.as_object_mut().unwrap().remove(field);
        }
        json["num_hidden_layers"] = json!(22);
        json["intermediate_size"] = json!(5632);
        json["num_key_value_heads"] = json!(4);
        json["tie_word_embeddings"] = json!(false);
        json["vocab_size"] = json!(32000);
    });
    let llama_2 = with(mistral(), |json| {
        json["architectures"] = json!(["LlamaForCausalLM"]);
        json["model_type"] = json!("llama");
        json["intermediate_size"] = json!(11008);
        json.as_object_mut().unwrap().remove("num_key_value_heads");
    });
    let models = [
        (llama(), 1_235_814_400),
        (tiny_llama, 1_100_048_384),
        (llama_2, 6_738_415_616),
        (mistral(), 7_241_732_096),
        (qwen2(), 494_032_768),
    ];
    for (json, parameters) in models {
        let found = inspect(&Folder::with_config(&json).dir).unwrap();
        assert_eq!(found.costs[0].parameters, parameters, "{json}");
    }
}

#[test]
fn rope_parameters_mean_theta_and_scaling() {
    let old = read(&llama()).unwrap();
    let new = read(&with(llama(), |json| {
        let mut parameters = json["rope_scaling"].take();
        parameters["rope_theta"] = json["rope_theta"].take();
        json["rope_parameters"] = parameters;
        json["dtype"] = json["torch_dtype"].take();
    }))
    .unwrap();
    assert_eq!(new.rope_scaling, old.rope_scaling);
    assert_eq!(new.file.rope_theta, old.file.rope_theta);
    assert_eq!(new.file.other["torch_dtype"], "bfloat16");
    let plain = read(&with(llama(), |json| {
        json["rope_scaling"].take();
        json["rope_parameters"] = json!({"rope_theta": 500000, "rope_type": "default"});
    }));
    assert_eq!(plain.unwrap().rope_scaling, None);

    assert_error(
        with(llama(), |json| json["rope_parameters"] = json!({"rope_theta": 10000.0})),
        &["rope_theta", "500000", "10000"],
    );
    assert_error(
        with(llama(), |json| {
            json["rope_parameters"] = json!({"full_attention": {"rope_theta": 1e6}});
        }),
        &["rope_parameters", "one RoPE for all layers"],
    );
}

#[test]
fn the_scaling_type_may_have_either_name_or_both() {
    for names in [&["type"][..], &["type", "rope_type"], &["rope_type"]] {
        let json = with(llama(), |json| {
            json["rope_scaling"].as_object_mut().unwrap().remove("rope_type");
            for name in names {
                json["rope_scaling"][name] = json!("llama3");
            }
        });
        assert!(read(&json).unwrap().rope_scaling.is_some());
    }
    for kind in ["linear", "dynamic", "yarn", "longrope"] {
        assert_error(
            with(llama(), |json| json["rope_scaling"] = json!({"type": kind, "factor": 2.0})),
            &["rope_scaling", kind, "llama3"],
        );
    }
}

#[test]
fn qwen2_has_biases_on_q_k_and_v() {
    let config = read(&qwen2()).unwrap();
    assert!(config.file.attention_bias && !config.file.mlp_bias);
    let windowed = with(qwen2(), |json| json["use_sliding_window"] = json!(true));
    assert_error(windowed, &["use_sliding_window", "true"]);
}

#[test]
fn a_window_as_long_as_the_context_is_accepted() {
    read(&mistral()).unwrap();
    read(&with(mistral(), |json| json["sliding_window"] = json!(32768))).unwrap();
    let hides = with(mistral(), |json| json["sliding_window"] = json!(4096));
    assert_error(hides, &["sliding_window", "4096", "max_position_embeddings"]);
    // The default of transformers for Mistral is 4096.
    let silent = with(mistral(), |json| {
        json.as_object_mut().unwrap().remove("sliding_window");
    });
    assert_error(silent, &["sliding_window", "4096"]);
}

#[test]
fn fields_that_change_the_computation_are_errors() {
    let changes = [
        ("model_type", json!("qwen3_moe")),
        ("model_type", json!("gemma2")),
        ("model_type", json!("mixtral")),
        ("architectures", json!(["LlamaForSequenceClassification"])),
        ("hidden_act", json!("gelu")),
        ("partial_rotary_factor", json!(0.5)),
        ("attention_multiplier", json!(1.0)),
        ("logits_scaling", json!(8.0)),
        ("residual_multiplier", json!(0.22)),
        ("final_logit_softcapping", json!(30.0)),
        ("quantization_config", json!({"quant_method": "gptq"})),
        ("num_local_experts", json!(8)),
        ("layer_types", json!(["full_attention", "sliding_attention"])),
        ("layer_types", json!(["full_attention"])),
        ("is_causal", json!(false)),
        ("original_max_position_embeddings", json!(4096)),
        ("head_dim", json!(63)),
        ("vocab_size", Value::Null),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(5)),
        ("sliding_window", json!("many")),
    ];
    for (field, value) in changes {
        assert_error(with(llama(), |json| json[field] = value), &["config.json", field]);
    }
    // The same fields with neutral values.
    read(&with(llama(), |json| {
        json["partial_rotary_factor"] = json!(1);
        json["final_logit_softcapping"] = Value::Null;
        json["logits_scaling"] = json!(1);
        json["is_causal"] = json!(true);
        json["original_max_position_embeddings"] = json!(8192);
        json["layer_types"] = json!(vec!["full_attention"; 16]);
    }))
    .unwrap();
}

#[test]
fn an_explicit_head_dimension_is_used() {
    let config = read(&with(llama(), |json| json["head_dim"] = json!(128))).unwrap();
    assert_eq!(config.head_dim, 128);
}
