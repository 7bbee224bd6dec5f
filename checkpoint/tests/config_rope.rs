//! RoPE's fields in config.json in both forms, and the messages of their errors.

use colm_checkpoint::{ColmConfig, Source};
use colm_testing::small_checkpoint::{assert_error, config_json, parse, with};
use serde_json::{json, Value};

#[test]
fn llama3_rescaling_needs_its_four_numbers() {
    let whole = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16
    });
    let base = || with(config_json(), |json| json["rope_scaling"] = whole.clone());
    assert_eq!(parse(base()).rope_scaling.unwrap().original_max_position_embeddings, 16);
    let numbers = ["factor", "low_freq_factor", "high_freq_factor"];
    for field in numbers.into_iter().chain(["original_max_position_embeddings"]) {
        for bad in [Value::Null, json!(0), json!(-1), json!("8"), json!(false)] {
            let scaling = with(whole.clone(), |scaling| scaling[field] = bad);
            let named = format!("rope_scaling.{field}");
            assert_error(base(), "rope_scaling", scaling, &[&named]);
        }
    }
    for high in [1.0, 0.5] {
        let scaling = with(whole.clone(), |scaling| scaling["high_freq_factor"] = json!(high));
        assert_error(base(), "rope_scaling", scaling, &["low_freq_factor = 1"]);
    }
}

#[test]
fn rope_scalings_other_than_llama3_are_errors() {
    assert_error(config_json(), "rope_scaling", json!({"rope_type": "yarn"}), &["yarn"]);
    assert_error(config_json(), "rope_scaling", json!({"factor": 2.0}), &["rope_type"]);
    let plain = with(config_json(), |json| json["rope_scaling"] = json!({"type": "default"}));
    assert!(parse(plain).rope_scaling.is_none());
}

#[test]
fn rope_parameters_are_equivalent_to_the_older_fields() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let older = with(config_json(), |json| {
        json["rope_theta"] = json!(5e5);
        json["rope_scaling"] = llama3.clone();
    });
    let newer = with(config_json(), |json| {
        json.as_object_mut().unwrap().remove("rope_theta");
        json["rope_parameters"] = with(llama3.clone(), |rope| rope["rope_theta"] = json!(5e5));
    });
    let (older, newer) = (parse(older), parse(newer));
    assert_eq!(older.rope_scaling, newer.rope_scaling);
    assert!(newer.rope_scaling.is_some());
    assert_eq!((older.file.rope_theta, newer.file.rope_theta), (5e5, 5e5));
    let plain =
        json!({"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": null});
    let plain = with(config_json(), |json| json["rope_parameters"] = plain);
    assert!(parse(plain).rope_scaling.is_none());
    let both = with(config_json(), |json| {
        json["rope_scaling"] = json!({"type": "default", "rope_type": "default"});
    });
    assert!(parse(both).rope_scaling.is_none());
    let explicit = with(config_json(), |json| json["rope_theta"] = json!(10000.0));
    assert_error(explicit, "rope_parameters", json!({"rope_theta": 5e5}), &["rope_theta"]);
    let base = || with(config_json(), |json| json["rope_theta"] = json!(5e5));
    assert_error(base(), "rope_parameters", json!({"rope_theta": 1e6}), &["rope_theta", "1000000"]);
    assert_error(base(), "rope_parameters", json!({"rope_theta": "x"}), &["rope_theta"]);
    let yarn = with(base(), |json| json["rope_parameters"] = json!({"rope_type": "yarn"}));
    assert!(ColmConfig::parse(&yarn.to_string()).unwrap_err().to_string().contains("yarn"));
    assert_error(base(), "rope_parameters", json!({"full": {"rope_theta": 1}}), &["one RoPE"]);
    assert_error(base(), "rope_parameters", json!([]), &["rope_parameters"]);
}

/// transformers 4 reads a base in `rope_scaling` too.
#[test]
fn a_base_in_rope_scaling_counts() {
    let scaling = |json: serde_json::Value| with(config_json(), |base| base["rope_scaling"] = json);
    let plain = scaling(json!({"rope_type": "default", "rope_theta": 5e5}));
    assert_eq!(parse(plain.clone()).file.rope_theta, 5e5);
    let equal = with(plain.clone(), |json| json["rope_theta"] = json!(500_000));
    assert_eq!(parse(equal).file.rope_theta, 5e5);
    assert_error(plain.clone(), "rope_theta", json!(1e4), &["rope_scaling", "500000"]);
    let parameters = json!({"rope_type": "default", "rope_theta": 1e4});
    assert_error(plain, "rope_parameters", parameters, &["rope_theta", "expected the same"]);
    let wrong = scaling(json!({"rope_type": "default", "rope_theta": -1}));
    let error = ColmConfig::parse(&wrong.to_string()).unwrap_err().to_string();
    assert!(error.contains("`rope_scaling.rope_theta` = -1"), "{error}");
}

#[test]
fn heads_that_are_rotated_in_part_are_errors() {
    let named = ["partial_rotary_factor", "whole heads"];
    assert_error(config_json(), "partial_rotary_factor", json!(0.5), &named);
    for map in ["rope_scaling", "rope_parameters"] {
        let half = json!({"rope_type": "default", "partial_rotary_factor": 0.5});
        assert_error(config_json(), map, half, &[map, named[0], named[1]]);
    }
    let whole = with(config_json(), |json| json["partial_rotary_factor"] = json!(1));
    parse(whole);
}

/// Errors use the field names of the file, in either form.
#[test]
fn fields_are_named_where_they_are_written() {
    let llama = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 11,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 8,
    });
    let message = |base: &Value, parameters: &Value| {
        let json = with(base.clone(), |json| json["rope_parameters"] = parameters.clone());
        if base["model_type"] != "llama" {
            return ColmConfig::parse(&json.to_string()).unwrap_err().to_string();
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        Source::read_config(folder.path()).unwrap_err().to_string()
    };
    for (parameters, named) in [
        (json!({"rope_type": "llama3"}), "`rope_parameters.low_freq_factor` = absent"),
        (json!({"rope_type": "llama3", "factor": "8"}), "`rope_parameters.factor`: invalid type"),
        (json!({"rope_type": "yarn"}), "`rope_parameters.rope_type` = yarn"),
        (json!({"type": "yarn"}), "`rope_parameters.rope_type` = yarn"),
        (json!({"type": "yarn", "rope_type": "default"}), "`rope_parameters.type` = \"yarn\""),
        (json!({"rope_theta": -1}), "`rope_parameters.rope_theta` = -1"),
        (json!({"rope_theta": "x"}), "`rope_parameters.rope_theta`: invalid type"),
    ] {
        for base in [&config_json(), &llama] {
            let error = message(base, &parameters);
            assert!(error.contains(named), "no {named:?} in: {error}");
            // A line number would refer to the normalized text, not to the file.
            assert!(!error.contains("at line"), "{error}");
        }
    }
    let long = "x\u{9b}".repeat(1_000);
    let other = with(config_json(), |json| json["rope_scaling"] = json!({"rope_type": long}));
    let said = message(&other, &json!({"rope_type": "default", "x": long}));
    assert!(said.len() < 2_500 && !said.contains('\u{9b}'), "{} bytes: {said}", said.len());
    let both = with(config_json(), |json| json["rope_scaling"] = json!({"rope_type": "llama3"}));
    let error = message(&both, &json!({"rope_type": "llama3"}));
    assert!(error.contains("`rope_scaling.low_freq_factor` = absent"), "{error}");
}
