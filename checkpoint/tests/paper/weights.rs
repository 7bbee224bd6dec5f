//! Weight files that do not fit params.json, or are not weights.

use std::fs;

use colm_checkpoint::{Dtype, Source};
use colm_testing::small_checkpoint::fill;
use serde_json::json;

use crate::folder::{Folder, AIR, COLM, FILE};
use crate::state_dict::{entries, state_dict, Entry};

#[test]
fn a_missing_tensor_is_named() {
    for model in [COLM, AIR] {
        for name in Folder::golden(model).tensors().keys() {
            let folder = Folder::golden(model);
            folder.change_tensors(|tensors| drop(tensors.remove(name)));
            folder.assert_error(&[&format!("tensor `{name}` is missing"), FILE]);
            assert_eq!(folder.problems().len(), 1);
        }
    }
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    for model in [COLM, AIR] {
        for (name, tensor) in Folder::golden(model).tensors() {
            let folder = Folder::golden(model);
            // One row more: as many rows as the next multiple of the columns would give.
            let mut shape = tensor.shape.clone();
            shape[0] += 1;
            folder.change_tensors(|tensors| {
                tensors.insert(name.clone(), fill(Dtype::F32, &shape, |_, _| 1.));
            });
            let [found, expected] = [&shape, &tensor.shape].map(|shape| format!("{shape:?}"));
            folder.assert_error(&[&name, FILE, &found, &expected]);
        }
    }
    let folder = Folder::golden(AIR);
    folder.change_tensors(|tensors| {
        // Over all chains, as in the dense layout.
        let name = "layers.0.attention.wk.weight".to_owned();
        tensors.insert(name, fill(Dtype::F32, &[8, 48], |_, _| 1.));
    });
    folder.assert_error(&["layers.0.attention.wk.weight", "[8, 48]; expected [8, 24]"]);
}

#[test]
fn other_tensors_are_refused_with_a_reason() {
    for (model, name, why) in [
        (COLM, "layers.0.attention.wq.mlps.0.bias", "no biases"),
        (COLM, "layers.0.attention.q_norm.weight", "no norms of q and k"),
        (COLM, "layers.0.attention.k_norm.mlps.1.weight", "no norms of q and k"),
        (COLM, "layers.0.attention.wq.weight", "a list of one matrix per chain"),
        (COLM, "layers.0.attention.wk.weight", "only with `kv_sharing`"),
        (COLM, "layers.0.feed_forward.w1.mlps.2.weight", "after the last of `chains`"),
        (COLM, "layers.2.feed_forward.w1.mlps.0.weight", "after the last of `n_layers`"),
        (COLM, "layers.0.feed_forward.w4.mlps.0.weight", "expected only"),
        (COLM, "model.embed_tokens.weight", "expected only"),
        (COLM, "output.mlps.0.weight", "expected only"),
        (AIR, "layers.0.attention.wk.mlps.1.weight", "one matrix over chain 1, not lists"),
        (AIR, "layers.0.attention.wv.mlps.0.weight", "one matrix over chain 1, not lists"),
    ] {
        let folder = Folder::golden(model);
        folder.change_tensors(|tensors| {
            tensors.insert(name.into(), fill(Dtype::F32, &[8], |_, _| 1.));
        });
        folder.assert_error(&[&format!("`{name}`"), FILE, "that params.json describes", why]);
        assert_eq!(folder.problems().len(), 1);
    }
    // Tables of RoPE's frequencies follow from the config.
    let folder = Folder::golden(COLM);
    folder.change_tensors(|tensors| {
        tensors.insert("rope.freqs".into(), fill(Dtype::F32, &[2], |_, _| 1.));
    });
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn kv_sharing_must_fit_the_tensors() {
    let folder = Folder::golden(AIR);
    folder.change_params(|params| {
        params["kv_sharing"] = json!(false);
        params["n_kv_heads"] = json!(6);
    });
    folder.assert_error(&[
        "`layers.0.attention.wk.mlps.0.weight` is missing",
        "`kv_sharing` is not true",
    ]);
    let folder = Folder::golden(COLM);
    folder.change_params(|params| {
        params["kv_sharing"] = json!(true);
        params["n_kv_heads"] = json!(4);
    });
    folder.assert_error(&["`layers.0.attention.wk.weight` is missing", "`kv_sharing` is true"]);
}

#[test]
fn damaged_files_are_named() {
    let whole = fs::read(Folder::golden(AIR).path(FILE)).unwrap();
    for length in [0, 7, 8, 500, whole.len() / 2, whole.len() - 1] {
        let folder = Folder::golden(AIR);
        folder.write(FILE, &whole[..length]);
        folder.assert_error(&[FILE]);
    }
    let folder = Folder::golden(AIR);
    let tensors = folder.tensors();
    folder.remove(FILE);
    let whole = state_dict(entries(&tensors));
    for length in [0, 7, 500, whole.len() / 2, whole.len() - 1] {
        folder.write("consolidated.00.pth", &whole[..length]);
        folder.assert_error(&["consolidated.00.pth", "not a PyTorch state dict"]);
    }
}

#[test]
fn a_tensor_in_two_files_is_refused() {
    let folder = Folder::golden(COLM);
    let tensors = folder.tensors();
    let one = [("norm.weight".to_owned(), tensors["norm.weight"].clone())].into();
    folder.write_tensors("consolidated.more.safetensors", &one);
    folder.assert_error(&["`norm.weight` is in both", FILE, "consolidated.more.safetensors"]);
    folder.remove("consolidated.more.safetensors");
    folder.remove(FILE);
    folder.write_tensors("a.safetensors", &tensors);
    folder.write_tensors("b.safetensors", &one);
    folder.assert_error(&["`norm.weight` is in both", "a.safetensors", "b.safetensors"]);
    ["a.safetensors", "b.safetensors"].iter().for_each(|file| folder.remove(file));
    // In the map of the model and beside it.
    let mut twice = vec![("norm.weight".to_owned(), Entry::Tensor(&tensors["norm.weight"]))];
    twice.push(("model".into(), Entry::Map(entries(&tensors))));
    folder.write("a.pt", state_dict(twice));
    folder.assert_error(&["a.pt", "`norm.weight` occurs twice"]);
}

#[test]
fn entries_that_are_not_tensors_are_refused() {
    let folder = Folder::golden(COLM);
    let tensors = folder.tensors();
    folder.remove(FILE);
    let mut other = entries(&tensors);
    other.push(("epoch".into(), Entry::Number(1)));
    folder.write("a.pt", state_dict(other));
    folder.assert_error(&["a.pt", "`epoch` is not a tensor"]);
    let mut complex = entries(&tensors);
    complex.push(("layers.0.freqs".into(), Entry::Complex));
    folder.write("a.pt", state_dict(complex));
    folder.assert_error(&["a.pt", "`layers.0.freqs`", "ComplexFloatStorage"]);
}

/// PyTorch reads such tensors with other values than the file has, for example negated.
#[test]
fn metadata_that_change_values_are_refused() {
    let folder = Folder::golden(COLM);
    let tensors = folder.tensors();
    folder.remove(FILE);
    let write = |metadata| {
        let mut changed = entries(&tensors);
        changed.retain(|(name, _)| name != "norm.weight");
        let norm = Entry::WithMetadata(&tensors["norm.weight"], metadata);
        changed.push(("norm.weight".into(), norm));
        folder.write("a.pt", state_dict(changed));
    };
    for without_effect in [&b"N"[..], b"}", b"}X\x03\0\0\0neg\x89s"] {
        write(without_effect);
        assert_eq!(folder.problems(), [""; 0]);
    }
    for (metadata, why) in [
        (&b"}X\x03\0\0\0neg\x88s"[..], "has \"neg\" in its metadata"),
        (b"}(X\x04\0\0\0conj\x89X\x03\0\0\0neg\x88u", "has \"neg\" in its metadata"),
        (b"}X\x04\0\0\0conj\x88s", "has \"conj\" in its metadata"),
        (b"}X\x05\0\0\0scaleK\x02s", "has \"scale\" in its metadata"),
        (b"}K\x01\x88s", "has \"Int(1)\" in its metadata"),
        (b"K\x01", "a map of metadata after the stride"),
        (b"}}", "a map of metadata after the stride"),
    ] {
        write(metadata);
        folder.assert_error(&["a.pt", "`norm.weight`", why]);
    }
}

#[test]
fn values_must_be_finite_and_of_a_supported_dtype() {
    let folder = Folder::golden(COLM);
    folder.change_tensors(|tensors| {
        let norm = tensors.get_mut("layers.1.ffn_norm.weight").unwrap();
        norm.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let problems = folder.problems();
    assert!(problems.len() == 1 && problems[0].contains("1 values are NaN"), "{problems:#?}");
    folder.change_tensors(|tensors| {
        tensors.insert("norm.weight".into(), fill(Dtype::F64, &[48], |_, _| 1.));
    });
    folder.assert_error(&["`norm.weight`", "F64"]);
}

#[test]
fn parts_of_matrices_and_distributed_checkpoints_are_refused_with_what_to_do() {
    for name in ["consolidated.01.pth", "consolidated.07.safetensors"] {
        let folder = Folder::golden(COLM);
        folder.write(name, "");
        folder.assert_error(&[name, "model-parallel", "expected whole matrices"]);
    }
    let folder = Folder::golden(COLM);
    folder.write("__0_0.distcp", "");
    // Beside other weights it is not looked at.
    assert_eq!(folder.problems(), [""; 0]);
    folder.remove(FILE);
    folder.assert_error(&[
        "__0_0.distcp",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch",
    ]);
    folder.remove("__0_0.distcp");
    folder.assert_error(&["no weights in"]);
    assert!(Source::read_config(&folder.dir).is_ok());
}
