//! params.json: defaults, and errors that name the field, its value and what would be right.

use colm_checkpoint::{check_model_folder, Architecture, ColmConfig, Source};
use serde_json::{json, Value};

use crate::folder::{Folder, AIR, COLM};

fn config(folder: &Folder) -> ColmConfig {
    Source::read_config(&folder.dir).unwrap().0
}

/// Asserts the error of the golden model with one field changed, or without it if `value` is None.
fn assert_error(model: &str, field: &str, value: Option<Value>, words: &[&str]) {
    let folder = Folder::golden(model);
    let shown = value.as_ref().map_or("absent".into(), ToString::to_string);
    let shown: String = shown.chars().take(20).collect();
    folder.change_params(|params| match value {
        Some(value) => params[field] = value,
        None => drop(params.as_object_mut().unwrap().remove(field)),
    });
    let error = Source::read_config(&folder.dir).unwrap_err();
    let said = error.to_string();
    let field = format!("`{field}");
    for word in words.iter().chain(&["model/params.json", &field, &shown]) {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    folder.assert_error(words);
}

#[test]
fn optional_fields_have_the_defaults_of_torchtitan_and_meta() {
    let folder = Folder::golden(COLM);
    folder.change_params(|params| {
        let params = params.as_object_mut().unwrap();
        for field in ["n_kv_heads", "norm_eps", "max_seq_len", "kv_sharing"] {
            params.remove(field);
        }
        // No effect, or the only value that is supported.
        for (field, value) in [
            ("multiple_of", json!(256)),
            ("ffn_dim_multiplier", json!(null)),
            ("depth_init", json!(true)),
            ("max_batch_size", json!(32)),
            ("eos_id", json!(0)),
            ("use_flex_attn", json!(false)),
            ("attn_mask_type", json!("causal")),
            ("norm_type", json!("rmsnorm")),
            ("qk_norm", json!(false)),
            ("use_scaled_rope", json!(false)),
            ("weight_tying", json!(false)),
        ] {
            params.insert(field.into(), value);
        }
    });
    let config = config(&folder);
    assert_eq!(config.architecture, Architecture::Colm);
    assert_eq!((config.kv_heads.of(0), config.kv_heads.of(1)), (8, 4));
    assert_eq!(config.file.rms_norm_eps, 1e-5);
    assert_eq!(config.file.max_position_embeddings, 2048);
    assert!(!config.file.tie_word_embeddings && config.rope_scaling.is_none());
    assert_eq!(config.head_dim, 4);
}

#[test]
fn a_head_dimension_of_its_own() {
    let folder = Folder::golden(COLM);
    folder.change_params(|params| params["head_dim"] = json!(6));
    assert_eq!(config(&folder).head_dim, 6);
    // The shapes of the tensors decide whether it is right.
    folder.assert_error(&["layers.0.attention.wk.mlps.0.weight", "[16, 32]; expected [24, 32]"]);
}

#[test]
fn fields_without_a_default() {
    for field in ["dim", "n_layers", "n_heads", "hidden_dim", "vocab_size"] {
        assert_error(COLM, field, None, &["expected the", "whole number"]);
    }
    assert_error(COLM, "rope_theta", None, &["TorchTitan takes 10000", "Llama 3 500000"]);
    assert_error(COLM, "chains", None, &["heads of each chain", "Hugging Face format"]);
}

#[test]
fn values_of_another_kind() {
    for field in
        ["dim", "n_layers", "n_heads", "n_kv_heads", "hidden_dim", "vocab_size", "max_seq_len"]
    {
        for value in [json!(0), json!(-1), json!(1.5), json!("8"), json!(1u64 << 40), json!([8])] {
            assert_error(AIR, field, Some(value), &["expected", "1 to"]);
        }
    }
    for field in ["norm_eps", "rope_theta"] {
        for value in [json!(0), json!(-1.0), json!("1e-5"), json!(true)] {
            assert_error(AIR, field, Some(value), &["expected a positive number"]);
        }
    }
    for field in ["kv_sharing", "tie_word_embeddings", "use_scaled_rope", "qk_norm"] {
        assert_error(AIR, field, Some(json!(1)), &["expected true or false"]);
    }
    for value in [json!(12), json!([]), json!([12, 0]), json!([6, -6]), json!([6.0, 6]), json!("6")]
    {
        assert_error(COLM, "chains", Some(value), &["heads of each chain"]);
    }
    assert_error(COLM, "chains", Some(json!(vec![1; 257])), &["1 to 256"]);
}

#[test]
fn widths_that_cannot_be_split() {
    assert_error(COLM, "chains", Some(json!([2, 1])), &["sum to 3", "`n_heads` = 12", "[8, 4]"]);
    assert_error(COLM, "chains", Some(json!([8, 8])), &["sum to 16", "`n_heads` = 12"]);
    assert_error(COLM, "n_heads", Some(json!(16)), &["chains", "sum to 12", "`n_heads` = 16"]);
    assert_error(COLM, "dim", Some(json!(50)), &["a multiple of `n_heads` = 12"]);
    assert_error(COLM, "dim", Some(json!(36)), &["3 elements", "pairs", "even"]);
    assert_error(COLM, "head_dim", Some(json!(5)), &["pairs", "even"]);
    assert_error(COLM, "hidden_dim", Some(json!(50)), &["chains [8, 4]", "a multiple of 3"]);
    assert_error(AIR, "hidden_dim", Some(json!(50)), &["chains [6, 4, 2]", "a multiple of 6"]);
    assert_error(COLM, "n_kv_heads", Some(json!(5)), &["a divisor of `n_heads` = 12"]);
    assert_error(COLM, "n_kv_heads", Some(json!(4)), &["chains [8, 4]", "a multiple of 3"]);
    assert_error(
        AIR,
        "n_kv_heads",
        Some(json!(3)),
        &["kv_sharing", "chain 2 has 4 heads", "divisor"],
    );
}

#[test]
fn fields_that_change_the_model_are_refused_by_name() {
    for field in ["attention_bias", "qkv_bias", "mlp_bias", "qk_norm", "use_qk_norm"] {
        assert_error(COLM, field, Some(json!(true)), &["expected false"]);
    }
    assert_error(COLM, "hidden_size", Some(json!(48)), &["no such field", "dim, n_layers"]);
    assert_error(COLM, "moe_args", Some(json!({"num_experts": 8})), &["no such field"]);
    assert_error(COLM, "attn_mask_type", Some(json!("block_causal")), &["expected \"causal\""]);
    assert_error(COLM, "norm_type", Some(json!("layernorm")), &["expected \"rmsnorm\""]);
    assert_error(COLM, "multiple_of", Some(json!("256")), &["expected a number"]);
    assert_error(COLM, "use_scaled_rope", Some(json!(true)), &["rope_scaling_args"]);
    assert_error(AIR, "use_scaled_rope", Some(json!(false)), &["rope_scaling_args"]);

    let folder = Folder::golden(COLM);
    folder.change_params(|params| {
        params["weight_tying"] = json!(true);
        params["tie_word_embeddings"] = json!(false);
    });
    folder.assert_error(&[
        "params.json",
        "`weight_tying` = true",
        "`tie_word_embeddings` is false",
    ]);
}

#[test]
fn the_arguments_of_the_rescaling() {
    let folder = Folder::golden(AIR);
    folder.change_params(|params| params["use_scaled_rope"] = json!(true));
    let scaling = config(&folder).rope_scaling.unwrap();
    assert_eq!((scaling.factor, scaling.original_max_position_embeddings), (8., 32));

    let change = |name: &str, value: Value, words: &[&str]| {
        let folder = Folder::golden(AIR);
        folder.change_params(|params| params["rope_scaling_args"][name] = value);
        folder.assert_error(
            &[&["params.json", &format!("`rope_scaling_args.{name}`")], words].concat(),
        );
    };
    for name in ["scaling_factor", "low_freq_factor", "high_freq_factor"] {
        for value in [json!(null), json!("8"), json!(0), json!(-1)] {
            change(name, value, &["expected a positive number"]);
        }
    }
    change("high_freq_factor", json!(1), &["low_freq_factor"]);
    change("original_max_position_embeddings", json!(1.5), &["expected a whole number"]);
    change("beta_fast", json!(32), &["expected only scaling_factor"]);
    assert_error(AIR, "rope_scaling_args", Some(json!([8])), &["expected a map"]);
}

#[test]
fn text_that_is_not_a_map_of_fields() {
    let folder = Folder::golden(COLM);
    for (text, words) in [
        ("", "not valid JSON"),
        ("[]", "map"),
        ("null", "map"),
        ("{\"dim\": 8, \"dim\": 8}", "`dim` occurs twice"),
        (r#"{"rope_scaling_args": {"a": 8, "a": 8}}"#, "`rope_scaling_args`: `a` occurs twice"),
    ] {
        folder.write("params.json", text);
        folder.assert_error(&["params.json", words]);
    }
}

#[test]
fn a_config_json_comes_first() {
    let folder = Folder::golden(COLM);
    folder.write("config.json", "{}");
    let error = Source::read_config(&folder.dir).unwrap_err().to_string();
    assert!(error.contains("config.json") && !error.contains("params.json"), "{error}");
}

/// What the engine says about such a folder.
#[test]
fn the_engine_suggests_pack() {
    let folder = Folder::golden(COLM);
    let error = check_model_folder(&folder.dir).unwrap_err().to_string();
    for word in ["params.json", "colm-convert pack", "model NEW_FOLDER"] {
        assert!(error.contains(word), "{error}");
    }
}
