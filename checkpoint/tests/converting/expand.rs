//! Chain expansion: which weights are kept, which are new, and errors.

use colm_checkpoint::convert::{expanded_config, Growth, NewChain};
use colm_checkpoint::{Architecture, Dtype};
use serde_json::json;

use crate::model::{assert_error, config, convert, converted, tensors, values};
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
fn new_weights_differ_from_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(config_json()), Dtype::F32);
    converted(dir, &["expand", "base", "big", "--chains", "2,1,1,4", "--init", "normal"]);
    let is_new = |name: &str| name.contains(".chains.3.") && !name.contains("norm");
    let new: Vec<_> =
        values(&dir.join("big")).into_iter().filter(|(name, _)| is_new(name)).collect();
    // 2 layers of q, k, v, o, gate, up and down; embedding and head.
    assert_eq!(new.len(), 2 * 7 + 2);
    for (index, (name, weights)) in new.iter().enumerate() {
        for (other, others) in &new[..index] {
            assert_ne!(weights[..8], others[..8], "{name} and {other}");
        }
    }
}

#[test]
fn new_biases_are_zero_and_the_range_of_the_base_is_used() {
    let json = with(config_json(), |json| {
        (json["attention_bias"], json["mlp_bias"]) = (true.into(), true.into());
        json["initializer_range"] = json!(0.1);
    });
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(json), Dtype::F32);
    converted(dir, &["expand", "base", "big", "--chains", "2,1,1,4"]);
    let (mut biases, mut squares, mut weights) = (0, 0., 0);
    for (name, found) in values(&dir.join("big")) {
        if !name.contains(".chains.3.") {
            continue;
        }
        if name.ends_with(".bias") {
            assert!(found.iter().all(|&value| value == 0.), "{name}");
            biases += 1;
        } else if name.contains("_proj") {
            squares += found.iter().map(|value| value * value).sum::<f32>();
            weights += found.len();
        }
    }
    assert_eq!(biases, 2 * 7);
    let std = (squares / weights as f32).sqrt();
    assert!((0.09..0.11).contains(&std), "{std}");
}

#[test]
fn a_chain_of_any_widths_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("colm"), &parse(config_json()), Dtype::F32);
    write_chains(&dir.join("air"), &parse(air_json()), Dtype::F32);
    // The chains of the base have 8, 4, 4 of 16 hidden elements, and 2 query heads per key/value head.
    for (base, added, shares) in [
        ("colm", &["hidden=3,heads=2,intermediate=5"][..], [19, 10, 29, 5]),
        ("colm", &["hidden=3,heads=3,kv-heads=1,intermediate=5"], [19, 11, 29, 5]),
        // Groups of two heads and of one.
        ("colm", &["hidden=3,heads=3,kv-heads=2,intermediate=5"], [19, 11, 29, 6]),
        (
            "colm",
            &["hidden=3,heads=2,intermediate=5", "hidden=1,heads=4,intermediate=1"],
            [20, 14, 30, 7],
        ),
        ("air", &["hidden=3,heads=2,intermediate=5"], [19, 10, 29, 2]),
    ] {
        let mut arguments = vec!["expand", base, "big"];
        added.iter().for_each(|added| arguments.extend(["--add", added]));
        converted(dir, &arguments);
        converted(dir, &["verify", "big"]);
        let file = config(&dir.join("big")).file;
        let widths = [file.hidden_size, file.num_attention_heads, file.intermediate_size];
        assert_eq!(
            (widths, file.num_key_value_heads),
            ([shares[0], shares[1], shares[2]], Some(shares[3]))
        );
        let (base, big) = (values(&dir.join(base)), values(&dir.join("big")));
        assert!(base.iter().all(|(name, kept)| big[name] == *kept));
        // In both layouts, and back.
        converted(dir, &["unpack", "big", "dense"]);
        converted(dir, &["pack", "dense", "again"]);
        assert_eq!(values(&dir.join("again")), big);
        converted(dir, &["extract", "big", "first", "--chains", "3"]);
        assert_eq!(values(&dir.join("first")), base);
        for name in ["big", "dense", "again", "first"] {
            std::fs::remove_dir_all(dir.join(name)).unwrap();
        }
    }
}

/// The widths of docs/spec.md#chains.
#[test]
fn a_chain_is_found_by_its_size() {
    let qwen = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151936,
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "torch_dtype": "bfloat16"
    });
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::create_dir(dir.join("qwen")).unwrap();
    std::fs::write(dir.join("qwen/config.json"), qwen.to_string()).unwrap();
    let dry = |added: &str| {
        converted(dir, &["expand", "qwen", "big", "--air", "--dry-run", "--add", added])
    };
    let planned = |added: &str| {
        let printed = dry(added);
        let json = printed.split("\n\n").next().unwrap();
        parse(serde_json::from_str(json).unwrap())
    };
    for (percent, parameters) in [("5%", 0.05), ("13.7%", 0.137), ("50%", 0.5), ("100%", 1.)] {
        let config = planned(percent);
        let [one, two] = [1, 2].map(|k| config.parameters(config.chain_count(k).unwrap()) as f64);
        let added = (two - one) / one;
        assert!((added / parameters - 1.).abs() < 0.1, "{percent}: {added}");
        assert_eq!((config.hidden.of(1) % 64, config.intermediate.of(1) % 64), (0, 0), "{percent}");
        assert_eq!(config.heads.of(1) % 2, 0, "{percent}");
    }
    let config = planned("hidden=128,heads=2,intermediate=512");
    assert_eq!(config.file.chains, [7, 1]);
    assert_eq!((config.hidden.total(), config.heads.of(1), config.kv_heads.of(1)), (1024, 2, 0));
    let printed = dry("13.7%");
    let rows = printed.lines().skip_while(|line| !line.starts_with("chains  parameters")).skip(1);
    assert_eq!(rows.take_while(|line| !line.is_empty()).count(), 2, "{printed}");
    let arguments = ["expand", "qwen", "big", "--air", "--dry-run", "--add", "0.001%"];
    assert_error(dir, &arguments, &["0.001 %", "nearest", "hidden="]);
}

#[test]
fn widths_that_cannot_be_are_errors_that_name_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("colm"), &parse(config_json()), Dtype::F32);
    write_chains(&dir.join("air"), &parse(air_json()), Dtype::F32);
    for (base, added, words) in [
        (
            "colm",
            "hidden=4,heads=3,intermediate=4",
            &["2 query heads share 1 key/value head;", "expected 2 or 4 query heads"][..],
        ),
        ("colm", "hidden=4,heads=2,kv-heads=0,intermediate=4", &["expected kv-heads from 1 to"]),
        ("air", "hidden=4,heads=3,intermediate=4", &["chain 4 has 3 heads", "multiple of the 2"]),
        (
            "air",
            "hidden=4,heads=2,kv-heads=1,intermediate=4",
            &["CoLM-Air chain 1 owns all", "expected none"],
        ),
    ] {
        assert_error(dir, &["expand", base, "big", "--add", added], words);
    }
    for arguments in [
        &["expand", "colm", "big"][..],
        &["expand", "colm", "big", "--add", "5%", "--chains", "2,1,1,1"],
    ] {
        assert_eq!(convert(dir, arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!dir.join("big").exists());
}

/// The widths of several such chains could overflow when added up.
#[test]
fn widths_out_of_range_are_errors() {
    let chain = NewChain { hidden: 3, heads: 2, kv_heads: None, intermediate: 5 };
    let base = parse(config_json());
    for (width, chain) in [
        ("hidden", NewChain { hidden: 0, ..chain }),
        ("hidden", NewChain { hidden: usize::MAX, ..chain }),
        ("heads", NewChain { heads: 0, ..chain }),
        ("kv-heads", NewChain { kv_heads: Some(0), ..chain }),
        ("intermediate", NewChain { intermediate: 1 << 31, ..chain }),
    ] {
        let growth = Growth::Widths(vec![chain]);
        let error = expanded_config(&base, &growth, Architecture::Colm).unwrap_err().to_string();
        let words = format!("a new chain of {chain}: expected {width} from 1 to 2147483647");
        assert_eq!(error, words);
    }
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
