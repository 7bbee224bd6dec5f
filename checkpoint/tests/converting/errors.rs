//! Errors of conversions, and wrong usage.

use std::fs;

use colm_checkpoint::Dtype;

use crate::model::{assert_error, convert};
use colm_testing::small_checkpoint::{chain_tensor, config_json, parse, write_chains};

#[test]
fn a_source_that_is_not_a_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    assert_error(dir, &["pack", "nowhere", "packed"], &["nowhere", "config.json"]);
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("empty/config.json"), config_json().to_string()).unwrap();
    assert_error(dir, &["unpack", "empty", "dense"], &["no weights in", "empty"]);
    assert!(!dir.join("packed").exists() && !dir.join("dense").exists());
}

#[test]
fn chains_of_different_dtypes_cannot_become_a_dense_tensor() {
    let config = parse(config_json());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    colm_checkpoint::write_chain_layout(&dir.join("mixed"), &config, |tensor| {
        let dtype = if tensor.chain == 0 { Dtype::F32 } else { Dtype::F16 };
        Ok::<_, colm_checkpoint::CheckpointError>(chain_tensor(dtype, tensor))
    })
    .unwrap();
    let words = ["model.embed_tokens.weight", "F32", "F16", "cast"];
    assert_error(dir, &["unpack", "mixed", "dense"], &words);
}

#[test]
fn values_too_large_for_f16_are_errors() {
    let config = parse(config_json());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    colm_checkpoint::write_chain_layout(&dir.join("big"), &config, |tensor| {
        let mut tensor = chain_tensor(Dtype::F32, tensor);
        tensor.bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
        Ok::<_, colm_checkpoint::CheckpointError>(tensor)
    })
    .unwrap();
    assert_error(dir, &["cast", "big", "f16", "--dtype", "f16"], &["1 finite values", "F16"]);
    assert!(!dir.join("f16").exists());
}

#[test]
fn wrong_usage_has_its_own_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("model"), &parse(config_json()), Dtype::F32);
    for arguments in [
        &["convert"][..],
        &["pack", "model"],
        &["cast", "model", "x", "--dtype", "int8"],
        &["pack", "model", "x", "--drop-above-diagonal", "-1"],
        &["expand", "model", "x"],
    ] {
        assert_eq!(convert(dir, arguments).status.code(), Some(2), "{arguments:?}");
    }
}
