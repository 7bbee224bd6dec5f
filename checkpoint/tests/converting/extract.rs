//! The first chains of a model as a checkpoint of their own.

use std::path::Path;

use serde_json::{json, Value};

use crate::model::{assert_error, config, converted, golden, tensors, values};
use colm_checkpoint::Dtype;
use colm_testing::small_checkpoint::{air_json, config_json, parse, with, write_chains};

fn tensor_count(case: &Path, k: usize) -> usize {
    let config = config(case);
    config.tensors(config.chain_count(k).unwrap()).count()
}

#[test]
fn the_first_chains_are_unchanged() {
    for case in golden() {
        let big = values(&case);
        for k in 1..=config(&case).chains.count() {
            for layout in ["chains", "dense"] {
                let folder = tempfile::tempdir().unwrap();
                let dir = folder.path();
                let k_chains = k.to_string();
                let source = case.to_str().unwrap();
                converted(
                    dir,
                    &["extract", source, "small", "--chains", &k_chains, "--layout", layout],
                );
                converted(dir, &["verify", "small"]);
                let small = values(&dir.join("small"));
                assert_eq!(config(&dir.join("small")).chains.count(), k);
                assert_eq!(small.len(), tensor_count(&case, k));
                for (name, values) in small {
                    assert_eq!(values, big[&name], "{name} of {}", case.display());
                }
            }
        }
    }
}

#[test]
fn one_chain_becomes_a_plain_llama() {
    for json in [config_json(), air_json()] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        write_chains(&dir.join("big"), &parse(json), Dtype::BF16);
        converted(dir, &["extract", "big", "llama", "--chains", "1", "--as", "llama"]);
        let text = std::fs::read_to_string(dir.join("llama/config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
        assert_eq!((&config["model_type"], config.get("chains")), (&json!("llama"), None));
        assert_eq!((&config["hidden_size"], &config["head_dim"]), (&json!(8), &json!(4)));
        let llama = tensors(&dir.join("llama"));
        let big = tensors(&dir.join("big"));
        for (name, (_, _, bytes)) in &llama {
            let stem = name.strip_suffix(".weight").unwrap();
            assert_eq!(*bytes, big[&format!("{stem}.chains.0.weight")].2, "{name}");
        }
        // It can be read again, as a CoLM of one chain.
        converted(dir, &["verify", "llama"]);
    }
}

/// A Llama has as many query heads for each key/value head.
#[test]
fn unequal_groups_of_heads_are_no_llama() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let json = with(config_json(), |json| {
        json["chain_widths"] = json!({"num_attention_heads": [5, 2, 1]})
    });
    write_chains(&dir.join("big"), &parse(json), Dtype::F32);
    let llama = ["extract", "big", "llama", "--chains", "1", "--as", "llama"];
    let words = ["`num_attention_heads`", "chain 1 has 5", "a multiple of the 2 key/value heads"];
    assert_error(dir, &llama, &words);
    converted(dir, &llama[..5]);
    // Its proportion holds for new chains: 5 query heads for 2 key/value heads.
    converted(dir, &["expand", "llama", "more", "--add", "hidden=4,heads=10,intermediate=4"]);
    assert_eq!(config(&dir.join("more")).kv_heads.of(1), 4);
    let add = ["expand", "llama", "x", "--add", "hidden=4,heads=6,intermediate=4"];
    assert_error(
        dir,
        &add,
        &["5 query heads share 2 key/value heads; expected 5 or 10 query heads"],
    );
}

#[test]
fn more_chains_than_the_model_has_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("big"), &parse(config_json()), Dtype::F32);
    assert_error(
        dir,
        &["extract", "big", "small", "--chains", "4"],
        &["--chains 4: expected 1 to 3"],
    );
    let as_llama = ["extract", "big", "small", "--chains", "2", "--as", "llama"];
    assert_error(dir, &as_llama, &["--chains 1"]);
    assert!(!dir.join("small").exists());
}

/// A device that runs two chains has the files of these alone.
#[test]
fn later_files_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("big"), &parse(config_json()), Dtype::F32);
    converted(dir, &["extract", "big", "whole", "--chains", "2"]);
    std::fs::remove_file(dir.join("big/model-chain-00003-of-00003.safetensors")).unwrap();
    converted(dir, &["verify", "big", "--chains", "2"]);
    converted(dir, &["extract", "big", "part", "--chains", "2"]);
    assert_eq!(values(&dir.join("part")), values(&dir.join("whole")));
    assert_error(dir, &["extract", "big", "x", "--chains", "3"], &["model-chain-00003-of-00003"]);
    assert_error(dir, &["verify", "big"], &["1 problem"]);
    assert_error(dir, &["verify", "big", "--chains", "4"], &["1 problem"]);
}
