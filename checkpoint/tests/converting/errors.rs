//! Errors of conversions, and wrong usage.

use std::fs;
use std::path::Path;

use colm_checkpoint::Dtype;

use crate::model::{assert_error, convert, write_above_diagonal};
use colm_testing::small_checkpoint::{chain_tensor, config_json, parse, write_chains, write_dense};

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

/// Chain 1 of the first projection reads chain 3.
#[test]
fn every_command_refuses_weights_above_the_diagonal() {
    let config = parse(config_json());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dense(&dir.join("dense"), &config, Dtype::F32);
    write_above_diagonal(&dir.join("dense"), "model.layers.0.self_attn.q_proj.weight", 1.);
    let words = ["model.layers.0.self_attn.q_proj.weight", "chain 1 would read chain 3"];
    for arguments in [
        &["pack", "dense", "new"][..],
        &["unpack", "dense", "new"],
        &["cast", "dense", "new", "--dtype", "bf16"],
        &["extract", "dense", "new", "--chains", "2"],
        &["expand", "dense", "new", "--chains", "2,1,1,4"],
    ] {
        assert_error(dir, arguments, &words);
        assert!(!dir.join("new").exists(), "{arguments:?}");
    }
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
fn wrong_usage_has_its_own_exit_code() {
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

/// Also for values that begin with a hyphen, which clap would take for flags.
#[test]
fn values_of_options_are_errors_that_say_what_is_expected() {
    let seed = "expected a whole number from 0 to 18446744073709551615";
    let (count, sizes) = ("expected a chain count from 1 to 256", "such as 32,8");
    let percent = "expected a positive number before the %";
    let possible = "[possible values: ";
    for (arguments, value, expected) in [
        (&["expand", "a", "b", "--seed", "-1"][..], "-1", seed),
        (&["expand", "a", "b", "--seed", "1.5"], "1.5", seed),
        (&["expand", "a", "b", "--chains", "-1,2"], "-1", sizes),
        (&["expand", "a", "b", "--chains", "1,0.5"], "0.5", sizes),
        (&["expand", "a", "b", "--chains", "1,0"], "0", sizes),
        (&["expand", "a", "b", "--chains", "1,,2"], "", sizes),
        (&["expand", "a", "b", "--chains", "1,3000000000"], "3000000000", "from 1 to 2147483647"),
        (&["expand", "a", "b", "--add", "-5%"], "-5%", percent),
        (&["expand", "a", "b", "--add", "10%%"], "10%%", percent),
        (&["expand", "a", "b", "--add", "hidden=0"], "hidden=0", "from 1 to 2147483647"),
        (&["expand", "a", "b", "--init", "-1"], "-1", possible),
        (&["expand", "a", "b", "--layout", "-1"], "-1", possible),
        (&["extract", "a", "b", "--chains", "-1"], "-1", count),
        (&["extract", "a", "b", "--chains", "257"], "257", count),
        (&["extract", "a", "b", "--chains", "1,2"], "1,2", count),
        (&["extract", "a", "b", "--as", "-1"], "-1", possible),
        (&["extract", "a", "b", "--layout", "-1"], "-1", possible),
        (&["verify", "a", "--chains", "-1"], "-1", count),
        (&["verify", "a", "--chains", "x"], "x", count),
        (&["pack", "a", "b", "--drop-above-diagonal", "-1"], "-1", "at least 0, such as 1e-8"),
        (&["pack", "a", "b", "--drop-above-diagonal", "-1e-8"], "-1e-8", "at least 0"),
        (&["cast", "a", "b", "--dtype", "-1"], "-1", possible),
    ] {
        let output = convert(Path::new("."), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        let words = [format!("invalid value '{value}' for '"), expected.into()];
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
}
