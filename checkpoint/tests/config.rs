//! Valid and invalid configs, and the messages of the errors.

use colm_checkpoint::{check_not_quantized, Architecture, ColmConfig};
use colm_testing::small_checkpoint::{air_json, assert_error, config_json, parse, with};
use serde_json::{json, Value};

const SIZES: [&str; 8] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
];

#[test]
fn a_valid_config_is_split_over_its_chains() {
    let config = parse(config_json());
    assert_eq!(config.architecture, Architecture::Colm);
    assert_eq!((0..3).map(|i| config.hidden.of(i)).collect::<Vec<_>>(), [8, 4, 4]);
    assert_eq!((0..3).map(|i| config.heads.of(i)).collect::<Vec<_>>(), [4, 2, 2]);
    assert_eq!((0..3).map(|i| config.kv_heads.of(i)).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(config.file.other["torch_dtype"], "float32");
}

#[test]
fn air_keeps_key_value_heads_in_chain_1() {
    let config = parse(air_json());
    assert_eq!((0..3).map(|i| config.kv_heads.of(i)).collect::<Vec<_>>(), [2, 0, 0]);
    assert_eq!((0..3).map(|i| config.kv_owner(i)).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn a_width_with_shares_of_its_own_is_split_into_them() {
    let config = parse(with(config_json(), |json| {
        json["chain_widths"] = json!({
            "hidden_size": [9, 1, 6], "num_attention_heads": [1, 6, 1], "num_key_value_heads": [1, 2, 1],
            "intermediate_size": null,
        });
    }));
    assert_eq!((0..3).map(|i| config.hidden.of(i)).collect::<Vec<_>>(), [9, 1, 6]);
    assert_eq!((0..3).map(|i| config.heads.range(i)).collect::<Vec<_>>(), [0..1, 1..7, 7..8]);
    assert_eq!((0..3).map(|i| config.kv_heads.of(i)).collect::<Vec<_>>(), [1, 2, 1]);
    // By `chains`, which are 2, 1, 1.
    assert_eq!((0..3).map(|i| config.intermediate.of(i)).collect::<Vec<_>>(), [12, 6, 6]);
    let air = parse(with(air_json(), |json| {
        json["chain_widths"] = json!({"num_key_value_heads": [2, 0, 0]});
    }));
    assert_eq!((0..3).map(|i| air.kv_heads.of(i)).collect::<Vec<_>>(), [2, 0, 0]);
}

#[test]
fn wrong_shares_are_errors_that_name_width_and_chain() {
    let hidden = "chain_widths.hidden_size";
    for (widths, words) in [
        (json!({"hidden_size": [8, 8]}), &[hidden, "3 entries"][..]),
        (json!({"hidden_size": [8, 4, 4, 0]}), &[hidden, "3 entries"]),
        (json!({"hidden_size": [8, 8, 0]}), &[hidden, "chain 3", "at least 1"]),
        (json!({"hidden_size": [8, 4, 5]}), &[hidden, "`hidden_size` = 16"]),
        (json!({"hidden_size": [8, 4, u64::MAX]}), &[hidden, "`hidden_size` = 16"]),
        (json!({"hidden_size": [8, 4, -4]}), &["chain_widths", "-4"]),
        (json!({"hidden_size": "8"}), &["chain_widths"]),
        (json!({"hidden": [8, 4, 4]}), &["chain_widths", "hidden"]),
        (json!([8, 4, 4]), &["chain_widths"]),
        (json!([[8, 4, 4]]), &["chain_widths", "expected a map"]),
        (json!({"num_key_value_heads": [2, 2, 0]}), &["num_key_value_heads", "chain 3"]),
    ] {
        assert_error(config_json(), "chain_widths", widths, words);
    }
    let shares = json!({"num_key_value_heads": [1, 1, 0]});
    let words = ["num_key_value_heads", "chain 2", "CoLM-Air chain 1 owns all"];
    assert_error(air_json(), "chain_widths", shares, &words);
    let json = with(air_json(), |json| {
        json["chain_widths"] = json!({"num_attention_heads": [5, 2, 1]});
    });
    let error = ColmConfig::parse(&json.to_string()).unwrap_err().to_string();
    assert!(error.contains("chain 1 has 5 heads, expected a multiple of the 2"), "{error}");
}

#[test]
fn norms_of_heads_are_tensors_of_each_chain_that_has_heads() {
    let names = |json: Value| {
        let config = parse(with(json, |json| json["qk_norm"] = json!(true)));
        let tensors = config.tensors(config.all_chains());
        let names = tensors.filter(|tensor| tensor.name().contains("layers.0.self_attn."));
        let norms = names.filter(|tensor| tensor.id.is_norm());
        norms.map(|tensor| (tensor.name(), tensor.shape())).collect::<Vec<_>>()
    };
    let norm = |head: &str, chain: usize| {
        (format!("model.layers.0.self_attn.{head}_norm.chains.{chain}.weight"), vec![4])
    };
    let [q, k] = ["q", "k"].map(|head| move |chain| norm(head, chain));
    assert_eq!(names(config_json()), [q(0), k(0), q(1), k(1), q(2), k(2)]);
    assert_eq!(names(air_json()), [q(0), k(0), q(1), q(2)]);
}

#[test]
fn dtype_is_the_newer_name_of_torch_dtype() {
    let config = parse(with(config_json(), |json| json["dtype"] = json["torch_dtype"].take()));
    assert_eq!(config.file.other["torch_dtype"], "float32");
    assert!(!config.file.other.contains_key("dtype"));
    parse(with(config_json(), |json| json["dtype"] = json["torch_dtype"].clone()));
    assert_error(config_json(), "dtype", json!("bfloat16"), &["`torch_dtype` is \"float32\""]);
}

#[test]
fn absent_fields_have_llamas_defaults() {
    let config = parse(with(config_json(), |json| {
        json.as_object_mut().unwrap().remove("num_key_value_heads");
        json.as_object_mut().unwrap().remove("head_dim");
    }));
    assert_eq!(config.kv_heads, config.heads);
    assert_eq!(config.head_dim, 2);
    assert_eq!(config.file.rope_theta, 10_000.);
    assert!(!config.file.tie_word_embeddings && !config.file.attention_bias);
}

#[test]
fn a_missing_field_is_named() {
    for field in ["architectures", "chains", "hidden_size", "rms_norm_eps", "vocab_size"] {
        let json = with(config_json(), |json| {
            json.as_object_mut().unwrap().remove(field);
        });
        let error = ColmConfig::parse(&json.to_string()).unwrap_err().to_string();
        assert!(error.contains(&format!("missing field `{field}`")), "{error}");
    }
}

#[test]
fn the_error_for_another_model_suggests_expand() {
    let json = with(config_json(), |json| {
        json["architectures"] = json!(["LlamaForCausalLM"]);
        json["model_type"] = json!("llama");
        json.as_object_mut().unwrap().remove("chains");
    });
    let error = ColmConfig::parse(&json.to_string()).unwrap_err().to_string();
    assert!(error.contains("LlamaForCausalLM"), "{error}");
    assert!(error.contains("colm-convert expand"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    let wrong = [
        ("hidden_size", json!("16"), "string"),
        ("hidden_size", json!(16.5), "expected a whole number of at least 0"),
        ("vocab_size", json!(-1), "-1"),
        ("num_key_value_heads", json!(-4), "-4"),
        ("rope_theta", json!("1e4"), "expected a number"),
        ("rope_theta", Value::Null, "null"),
        ("rms_norm_eps", json!([1e-5]), "list, expected a number"),
        ("chains", json!(2), "expected a list"),
        ("tie_word_embeddings", json!("yes"), "boolean"),
        ("rope_scaling", json!([]), "a map"),
    ];
    for (field, value, named) in wrong {
        assert_error(config_json(), field, value, &[named]);
    }
    for field in SIZES {
        for (value, named) in [
            (json!(1000.0), "1000.0"),
            (json!("1000"), "\"1000\""),
            (json!(-1), "`-1`"),
            (json!([]), "list, expected a whole number"),
            (json!({}), "map"),
            (json!(true), "`true`"),
            (json!(1e30), "1e+30"),
        ] {
            assert_error(config_json(), field, value, &[named, &format!("`{field}`:")]);
        }
        let json = config_json().to_string();
        let written = format!("\"{field}\":{}", config_json()[field]);
        let exponent = json.replace(&written, &format!("\"{field}\":1e3"));
        let error = ColmConfig::parse(&exponent).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("1000.0"), "{error}");
    }
    for field in
        SIZES.into_iter().filter(|field| !["num_key_value_heads", "head_dim"].contains(field))
    {
        assert_error(config_json(), field, Value::Null, &["null"]);
    }
    assert_error(config_json(), "chains", json!([1, -1]), &["chains[1]", "-1"]);
    let scaling = json!({"rope_type": "llama3", "factor": "8"});
    assert_error(config_json(), "rope_scaling", scaling, &["rope_scaling.factor"]);
    // A long value is abbreviated.
    let long = ColmConfig::parse(
        &with(config_json(), |json| json["hidden_act"] = json!("x".repeat(1_000_000))).to_string(),
    );
    let error = long.unwrap_err().to_string();
    assert!(error.contains("hidden_act") && error.len() < 2000, "{} bytes", error.len());
}

#[test]
fn a_field_that_occurs_twice_is_named() {
    for field in ["vocab_size", "quantization_config"] {
        let twice = config_json().to_string().replacen('{', &format!("{{\"{field}\": 1, "), 1);
        let twice = twice.replacen('{', &format!("{{\"{field}\": 1, "), 1);
        let error = ColmConfig::parse(&twice).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}` occurs twice")), "{error}");
    }
    // Also within a map, at any depth.
    for (field, within, value) in [
        ("rope_scaling", "rope_scaling", r#"{"rope_type": "default", "a": 1, "a": 1}"#),
        ("rope_parameters", "rope_parameters", r#"{"rope_theta": 1.0, "a": 1, "a": 1}"#),
        ("chain_widths", "chain_widths", r#"{"a": [16], "a": [16]}"#),
        ("quantization_config", "quantization_config", r#"{"a": 1, "a": 1}"#),
        ("quantization_config", "quantization_config.c[0]", r#"{"c": [{"a": 1, "a": 2}]}"#),
    ] {
        let twice =
            config_json().to_string().replacen('{', &format!("{{\"{field}\": {value}, "), 1);
        let error = ColmConfig::parse(&twice).unwrap_err().to_string();
        assert!(error.contains(&format!("`{within}`: `a` occurs twice")), "{error}");
    }
}

/// Fields without an effect stay as they are, in their order.
#[test]
fn other_fields_keep_their_values() {
    let other =
        r#"{"z": [-1, 18446744073709551615, 1.5, "x", true, null], "a": {"c": {}, "b": []}}"#;
    let rewritten = r#"{"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "#;
    let text =
        config_json().to_string().replacen('{', &format!("{rewritten}\"other\": {other}, "), 1);
    let config = ColmConfig::parse(&text).unwrap();
    let expected: Value = serde_json::from_str(other).unwrap();
    assert_eq!(config.file.other["other"].to_string(), expected.to_string());
}

/// Python writes these, and transformers accepts them.
#[test]
fn nan_and_infinity_are_accepted_in_unused_fields() {
    let with_text = |field: &str, value: &str| {
        let json = with(config_json(), |json| json[field] = json!("VALUE"));
        json.to_string().replace("\"VALUE\"", value)
    };
    for value in ["NaN", "Infinity", "-Infinity"] {
        ColmConfig::parse(&with_text("model_max_length", value)).unwrap();
        for field in ["rope_theta", "rms_norm_eps", "max_position_embeddings", "hidden_size"] {
            let error = ColmConfig::parse(&with_text(field, value)).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains(value), "{error}");
        }
        let scaling = format!("{{\"rope_type\": \"llama3\", \"factor\": {value}}}");
        let error =
            ColmConfig::parse(&with_text("rope_scaling", &scaling)).unwrap_err().to_string();
        assert!(error.contains("rope_scaling.factor") && error.contains(value), "{error}");
    }
}

#[test]
fn invalid_json_is_an_error() {
    let nested = "[".repeat(100_000);
    let texts = [
        ("", "not valid JSON", "line 1 column 0"),
        ("{\n\"chains\": [1,]}", "not valid JSON", "line 2 column 14"),
        ("{} {}", "not valid JSON", "line 1 column 4"),
        ("[]", "list, expected a map", "line 1"),
        (&nested, "list, expected a map", "line 1"),
        ("\u{feff}{}", "byte-order mark", "UTF-8 without one"),
    ];
    for (text, words, place) in texts {
        let error = ColmConfig::parse(text).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(place), "{error}");
    }
    let deep = config_json().to_string().replacen('{', &format!("{{\"x\": {nested},"), 1);
    assert!(ColmConfig::parse(&deep).unwrap_err().to_string().contains("recursion limit"));
    let followed = config_json().to_string() + "x";
    assert!(ColmConfig::parse(&followed).is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let error = ColmConfig::read(&path).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    std::fs::write(&path, "{}").unwrap();
    let error = ColmConfig::read(&path).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("architectures"), "{error}");
}

#[test]
fn other_models_are_errors() {
    let llama = json!(["LlamaForCausalLM"]);
    assert_error(config_json(), "architectures", llama, &["CoLMForCausalLM"]);
    assert_error(config_json(), "architectures", json!([]), &["CoLMAirForCausalLM"]);
    assert_error(config_json(), "model_type", json!("colm_air"), &["\"colm\""]);
    assert_error(config_json(), "hidden_act", json!("gelu"), &["gelu", "silu"]);
}

#[test]
fn sizes_out_of_range_are_errors() {
    for field in SIZES {
        assert_error(config_json(), field, json!(0), &["= 0", "expected 1 to"]);
        assert_error(config_json(), field, json!(u64::MAX), &["18446744073709551615"]);
        assert_error(config_json(), field, json!(1u64 << 40), &["expected 1 to"]);
    }
    let absurd = [("num_hidden_layers", "10000"), ("max_position_embeddings", "100000000")];
    for (field, most) in absurd {
        let expected = format!("expected 1 to {most}");
        assert_error(config_json(), field, json!(1_000_000_000), &["1000000000", &expected]);
    }
    for field in ["rms_norm_eps", "rope_theta"] {
        for value in [0., -1.] {
            assert_error(config_json(), field, json!(value), &["positive"]);
        }
    }
    assert_error(config_json(), "head_dim", json!(1 << 30), &["number of heads"]);
    assert_error(config_json(), "head_dim", json!(5), &["even"]);
    let no_head_dim = with(config_json(), |json| {
        json["chains"] = json!([1]);
        json["head_dim"] = Value::Null;
    });
    assert_error(no_head_dim, "hidden_size", json!(20), &["head_dim"]);
}

#[test]
fn invalid_chains_are_errors() {
    let many = json!(vec![1; 1_000_000]);
    assert_error(config_json(), "chains", many, &["1000000 entries", "at most 256"]);
    assert_error(config_json(), "chains", json!([]), &["empty"]);
    assert_error(config_json(), "chains", json!([1, 0]), &["chain 2", "size 0"]);
    assert_error(config_json(), "chains", json!([u64::MAX, 1]), &["common factor"]);
    assert_error(config_json(), "chains", json!([1 << 30, 1 << 30]), &["common factor"]);
    let indivisible = [
        ("hidden_size", 18),
        ("intermediate_size", 25),
        ("num_attention_heads", 9),
        ("num_key_value_heads", 2),
    ];
    for (field, width) in indivisible {
        assert_error(config_json(), field, json!(width), &["chain"]);
    }
}

/// In CoLM the groups may be unequal, also with fewer query heads than key/value heads.
#[test]
fn heads_of_an_air_must_share_key_value_heads_evenly() {
    let colm = with(config_json(), |json| {
        json["num_attention_heads"] = json!(12);
        json["num_key_value_heads"] = json!(8);
    });
    let unequal = with(colm, |json| {
        json["chain_widths"] = json!({"num_attention_heads": [6, 5, 1]});
    });
    let config = ColmConfig::parse(&unequal.to_string()).unwrap();
    assert_eq!((config.heads.of(1), config.kv_heads.of(1)), (5, 2));
    assert_eq!((config.heads.of(2), config.kv_heads.of(2)), (1, 2));
    let air = with(air_json(), |json| json["num_key_value_heads"] = json!(4));
    assert_error(air, "num_attention_heads", json!(8), &["chain 2", "multiple", "4"]);
}

#[test]
fn the_error_for_a_quantized_checkpoint_names_its_method() {
    check_not_quantized(None).unwrap();
    check_not_quantized(Some(&Value::Null)).unwrap();
    let list = vec!["layer"; 500];
    for (value, named) in [
        (json!({"quant_method": "gptq", "bits": 4}), "`quant_method` is \"gptq\""),
        (json!({"modules": list, "quant_method": "awq", "x": list}), "`quant_method` is \"awq\""),
        (json!({}), "{}"),
        (json!(false), "false"),
        (json!("none"), "none"),
    ] {
        let error = check_not_quantized(Some(&value)).unwrap_err().to_string();
        for word in ["`quantization_config`", "expected weights that are not quantized", named] {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
    }
}
