//! Progressive scaling: which weights are kept, which are new, and errors.

use colm_checkpoint::{Architecture, Dtype};
use serde_json::json;

use crate::model::{assert_error, config, converted, tensors, values};
use colm_testing::small_checkpoint::{air_json, config_json, parse, with, write_chains};

#[test]
fn the_base_is_kept_and_only_the_new_head_is_zero() {
    for (json, tied) in [(config_json(), false), (air_json(), false), (config_json(), true)] {
        let json = with(json, |json| json["tie_word_embeddings"] = tied.into());
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        write_chains(&dir.join("base"), &parse(json), Dtype::F32);
        let base = values(&dir.join("base"));
        converted(dir, &["expand", "base", "big", "--chains", "2,1,1,4"]);
        converted(dir, &["verify", "big"]);
        let (big, config) = (values(&dir.join("big")), config(&dir.join("big")));
        assert_eq!((config.file.hidden_size, config.file.intermediate_size), (32, 48));
        assert_eq!(config.file.num_attention_heads, 16);
        for (name, found) in &big {
            if let Some(kept) = base.get(name) {
                assert_eq!(found, kept, "{name}");
                continue;
            }
            let zeros = found.iter().filter(|&&value| value == 0.).count();
            let head = if tied { "model.embed_tokens" } else { "lm_head" };
            if name.starts_with(head) {
                assert_eq!(zeros, found.len(), "{name}");
            } else if name.contains("norm") {
                assert!(found.iter().all(|&value| value == 1.), "{name}");
            } else {
                // Normal with standard deviation 0.02.
                assert_eq!(zeros, 0, "{name}");
                let square = found.iter().map(|x| x * x).sum::<f32>() / found.len() as f32;
                assert!((0.015..0.025).contains(&square.sqrt()), "{name}: {}", square.sqrt());
            }
        }
    }
}

#[test]
fn a_llama_becomes_a_colm_or_an_air() {
    let llama = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 11,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
        "tie_word_embeddings": false, "torch_dtype": "float32"
    });
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // The weights of a CoLM of one chain, under Llama's names.
    let one = with(config_json(), |json| {
        for field in ["hidden_size", "intermediate_size", "num_hidden_layers"] {
            json[field] = llama[field].clone();
        }
        json["chains"] = json!([1]);
        json["num_key_value_heads"] = json!(2);
        json["head_dim"] = json!(8);
    });
    write_chains(&dir.join("one"), &parse(one), Dtype::F16);
    converted(dir, &["extract", "one", "llama", "--chains", "1", "--as", "llama"]);
    std::fs::write(dir.join("llama/config.json"), llama.to_string()).unwrap();
    let base = tensors(&dir.join("llama"));
    for (arguments, architecture, kv) in [
        (&["expand", "llama", "colm", "--chains", "2,1"][..], Architecture::Colm, 3),
        (&["expand", "llama", "air", "--chains", "4,1", "--air"][..], Architecture::ColmAir, 2),
    ] {
        converted(dir, arguments);
        let big = dir.join(arguments[2]);
        let config = config(&big);
        assert_eq!((config.architecture, config.kv_heads.total()), (architecture, kv));
        let big = tensors(&big);
        for (name, (dtype, _, bytes)) in &base {
            let first = name.replace(".weight", ".chains.0.weight");
            assert_eq!((dtype, bytes), (&big[&first].0, &big[&first].2), "{name}");
        }
        let dry = [arguments, &["--dry-run"]].concat();
        assert!(converted(dir, &dry).contains(architecture.name()));
    }
}

#[test]
fn new_weights_depend_on_the_seed_and_not_on_the_layout() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(config_json()), Dtype::F32);
    for (name, seed, layout) in [("a", "1", "chains"), ("b", "1", "dense"), ("c", "2", "chains")] {
        let chains = ["--chains", "2,1,1,4", "--init", "normal"];
        let rest = ["--seed", seed, "--layout", layout];
        converted(dir, &[&["expand", "base", name][..], &chains, &rest].concat());
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| values(&dir.join(name)));
    assert_eq!(a, b);
    assert_ne!(a["lm_head.chains.3.weight"], c["lm_head.chains.3.weight"]);
    assert!(a["lm_head.chains.3.weight"].iter().all(|&value| value != 0.));
}

#[test]
fn impossible_ratios_are_errors_that_suggest_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("colm"), &parse(config_json()), Dtype::F32);
    write_chains(&dir.join("air"), &parse(air_json()), Dtype::F32);
    let cases = [
        ("colm", "1,1,1,1", &["do not begin with", "[2, 1, 1]"][..]),
        ("colm", "8,4,4,3", &["`intermediate_size`", "chain 4", "nearest", "[2, 1, 1, 1]"]),
        ("air", "4,2,2,1", &["`num_attention_heads`", "chain 4", "nearest", "[2, 1, 1, 1]"]),
    ];
    for (base, chains, words) in cases {
        assert_error(dir, &["expand", base, "big", "--chains", chains], words);
    }
    assert_error(
        dir,
        &["expand", "colm", "big", "--chains", "2,1,1,4", "--air"],
        &["CoLMForCausalLM"],
    );
    assert!(!dir.join("big").exists());
}

/// A range that is not a number must not be treated as absent.
#[test]
fn an_invalid_initializer_range_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(config_json()), Dtype::F32);
    for range in ["0", "-0.02", "1e300", "1e-300", "\"0.02\"", "NaN", "Infinity", "[]"] {
        let text = config_json().to_string();
        let text = text.replacen('{', &format!("{{\"initializer_range\": {range},"), 1);
        std::fs::write(dir.join("base/config.json"), text).unwrap();
        let words = ["`initializer_range`", "expected a positive number"];
        assert_error(dir, &["expand", "base", "big", "--chains", "2,1,1,4"], &words);
    }
}
