//! `pack` and `unpack` are inverse, byte for byte; `cast` rounds.

use colm_checkpoint::{Dtype, Layout, Source};
use half::{bf16, f16};

use crate::model::{assert_error, converted, golden, tensors, write_above_diagonal};
use colm_testing::small_checkpoint::{
    air_json, config_json, parse, with, write_chains, write_dense,
};

#[test]
fn every_golden_model_survives_a_round_trip() {
    for case in golden() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let there_and_back = match Source::open(&case).unwrap().layout() {
            Layout::Chains => ["unpack", "pack"],
            Layout::Dense => ["pack", "unpack"],
        };
        converted(dir, &[there_and_back[0], case.to_str().unwrap(), "there"]);
        converted(dir, &["verify", "there"]);
        converted(dir, &[there_and_back[1], "there", "back"]);
        let (before, after) = (tensors(&case), tensors(&dir.join("back")));
        assert!(before.keys().eq(after.keys()), "{}", case.display());
        for (name, tensor) in &before {
            assert!(*tensor == after[name], "{name} of {}", case.display());
        }
    }
}

/// Both layouts of a model whose values encode their positions, in every dtype, with biases.
#[test]
fn pack_and_unpack_convert_between_the_layouts() {
    for json in [config_json(), air_json()] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let json = with(json.clone(), |json| {
                json["attention_bias"] = true.into();
                json["mlp_bias"] = true.into();
            });
            let config = parse(json);
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path();
            write_chains(&dir.join("chains"), &config, dtype);
            write_dense(&dir.join("dense"), &config, dtype);
            converted(dir, &["pack", "dense", "packed"]);
            assert_eq!(tensors(&dir.join("chains")), tensors(&dir.join("packed")));
            converted(dir, &["unpack", "chains", "unpacked"]);
            assert_eq!(tensors(&dir.join("dense")), tensors(&dir.join("unpacked")));
        }
    }
}

#[test]
fn values_above_the_diagonal_are_dropped_only_on_request() {
    let config = parse(config_json());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("chains"), &config, Dtype::F32);
    write_dense(&dir.join("dense"), &config, Dtype::F32);
    write_above_diagonal(&dir.join("dense"), "model.layers.1.mlp.up_proj.weight", 1. / 1024.);

    let words = ["model.layers.1.mlp.up_proj.weight", "chain 1 would read chain 3", "9.765625e-4"];
    std::fs::write(dir.join("dense/README.md"), "# My model").unwrap();
    assert_error(dir, &["pack", "dense", "packed"], &words);
    assert_error(dir, &["pack", "dense", "packed", "--drop-above-diagonal", "1e-4"], &words);
    let said = converted(dir, &["pack", "dense", "packed", "--drop-above-diagonal", "1e-2"]);
    assert!(said.contains("`model.layers.1.mlp.up_proj.weight`: dropped 1 values"), "{said}");
    // It is not quite the model of the card.
    assert!(dir.join("packed/SOURCE_README.md").exists() && !dir.join("packed/README.md").exists());
    assert_eq!(tensors(&dir.join("chains")), tensors(&dir.join("packed")));
}

#[test]
fn cast_rounds_to_nearest() {
    let config = parse(config_json());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("f32"), &config, Dtype::F32);
    for (name, dtype) in [("bf16", Dtype::BF16), ("f16", Dtype::F16)] {
        converted(dir, &["cast", "f32", name, "--dtype", name]);
        converted(dir, &["verify", name]);
        let (from, to) = (tensors(&dir.join("f32")), tensors(&dir.join(name)));
        for (tensor, (found, shape, bytes)) in &to {
            assert_eq!((*found, shape), (dtype, &from[tensor].1), "{tensor}");
            let wide =
                from[tensor].2.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            let expected: Vec<u8> = match dtype {
                Dtype::BF16 => wide.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
                _ => wide.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            };
            assert_eq!(*bytes, expected, "{tensor}");
        }
    }
    converted(dir, &["cast", "bf16", "wide", "--dtype", "f32"]);
    converted(dir, &["cast", "wide", "again", "--dtype", "bf16"]);
    assert_eq!(tensors(&dir.join("bf16")), tensors(&dir.join("again")));
}
