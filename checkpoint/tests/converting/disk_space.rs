//! Models that are too large for the disk, or too large at all, fail before anything is written.

use std::fs;

use colm_checkpoint::convert::{expand, to_chain_layout, Growth, Init};
use colm_checkpoint::{Architecture, Chains, CheckpointError, Dtype, Layout, Source};

use crate::model::{assert_error, converted, names};
use colm_testing::small_checkpoint::{air_json, config_json, parse, write_chains, write_dense};

#[test]
fn expansions_beyond_the_limit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(air_json()), Dtype::F32);
    for (chains, words) in [
        ("2,1,1,40000000", &["parameters", "bytes", "at most 100000000000000"][..]),
        ("2,1,1,1000000000", &["`hidden_size` = 4000000016", "2147483647"]),
        ("2,1,1,2147483647", &["`chains`", "sum to more than 2147483647"]),
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            let arguments = [&["expand", "base", "big", "--chains", chains][..], dry].concat();
            assert_error(dir, &arguments, words);
        }
    }
    let many = format!("2,1,1{}", ",1".repeat(300));
    assert_error(
        dir,
        &["expand", "base", "big", "--chains", &many],
        &["303 entries", "at most 256"],
    );
    assert_eq!(names(dir), ["base"]);
}

/// 54 * 10^12 parameters of 4 bytes are more than any test machine can store.
#[test]
fn a_model_larger_than_the_disk_is_an_error_with_both_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(config_json()), Dtype::F32);
    let chains = ["--chains", "2,1,1,400000"];
    let arguments = [&["expand", "base", "sub/big"][..], &chains].concat();
    let words = ["sub/big is not written", "parameters takes", "bytes free"];
    assert_error(dir, &arguments, &words);
    assert_eq!(names(dir), ["base"]);
    // `--dry-run` still shows its config.
    let printed = converted(dir, &[&arguments[..], &["--dry-run"]].concat());
    assert!(printed.contains("400000") && printed.contains("in memory"), "{printed}");

    let source = Source::open(&dir.join("base")).unwrap();
    let growth = Growth::Ratios(Chains::new(vec![2, 1, 1, 400_000]).unwrap());
    let plan = expand(&source, &growth, Architecture::Colm, Init::Zero, 0, Layout::Dense).unwrap();
    let error = plan.write(&source, &dir.join("big"), false, |_| ()).unwrap_err();
    let CheckpointError::DiskSpace { parameters, needed, free, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(parameters, plan.parameters());
    assert!(needed > u128::from(plan.byte_len()) && needed > free && free > 0);
    assert_eq!(u128::from(plan.byte_len()), 4 * parameters);
    assert_eq!(names(dir), ["base"]);
}

#[test]
fn the_destination_is_checked_before_the_weights_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // Values above the diagonal, an error that only reading finds.
    write_dense(&dir.join("dense"), &parse(config_json()), Dtype::F32);
    let path = dir.join("dense/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].fill(1);
    fs::write(&path, bytes).unwrap();
    fs::create_dir(dir.join("there")).unwrap();
    for command in [
        &["pack", "dense", "there"][..],
        &["unpack", "dense", "there"],
        &["cast", "dense", "there", "--dtype", "f16"],
        &["extract", "dense", "there", "--chains", "1"],
        &["expand", "dense", "there", "--chains", "2,1,1,4"],
    ] {
        assert_error(dir, command, &["there exists"]);
    }
    assert_error(dir, &["pack", "dense", "new"], &["would read chain"]);
    let source = Source::open(&dir.join("dense")).unwrap();
    to_chain_layout(&source).unwrap().check_destination(&source, &dir.join("new"), false).unwrap();
    assert_eq!(names(dir), ["dense", "there"]);
}
