//! Writing and reading checkpoints in both layouts.

use std::fs;
use std::path::Path;

use colm_checkpoint::{
    files_for, write_chain_layout, write_dense_layout, ChainCount, Checkpoint, CheckpointError,
    ColmConfig, Dtype, Layout, Projection, TensorId,
};
use colm_testing::small_checkpoint::{
    air_json, chain_tensor, config_json, dense_tensor, fill, parse, with, write_chains, write_dense,
};
use serde_json::{json, Value};
use tempfile::TempDir;

fn folder() -> (TempDir, std::path::PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("model");
    (parent, dir)
}

fn with_biases(json: Value) -> Value {
    with(json, |json| {
        json["attention_bias"] = json!(true);
        json["mlp_bias"] = json!(true);
    })
}

fn file_names(files: &[std::path::PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Asserts that every chain's tensor holds the values at its positions.
fn assert_places(dir: &Path, config: &ColmConfig, k: usize, dtype: Dtype, layout: Layout) {
    let k = config.chain_count(k).unwrap();
    let checkpoint = Checkpoint::open(dir, config, k).unwrap();
    assert_eq!((checkpoint.layout(), checkpoint.chain_count()), (layout, k));
    checkpoint.check_zero_submatrices().unwrap();
    for tensor in config.tensors(k) {
        let expected = chain_tensor(dtype, &tensor);
        let block = checkpoint.tensor(&tensor);
        assert_eq!((block.dtype(), block.shape()), (dtype, &tensor.shape()[..]), "{tensor:?}");
        assert_eq!(block.bytes(), expected.bytes, "{tensor:?}");
        assert_eq!(block.pieces().collect::<Vec<_>>().concat(), expected.bytes, "{tensor:?}");
    }
}

#[test]
fn both_layouts_give_every_chain_its_weights() {
    let tied = with(air_json(), |json| json["tie_word_embeddings"] = json!(true));
    for json in
        [config_json(), air_json(), tied, with_biases(config_json()), with_biases(air_json())]
    {
        let config = parse(json);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let parent = tempfile::tempdir().unwrap();
            let (chains, dense) = (parent.path().join("chains"), parent.path().join("dense"));
            write_chains(&chains, &config, dtype);
            write_dense(&dense, &config, dtype);
            for k in 1..=3 {
                assert_places(&chains, &config, k, dtype, Layout::Chains);
                assert_places(&dense, &config, k, dtype, Layout::Dense);
            }
        }
    }
}

/// What keys and values depend on has the same digests in both layouts, whatever chains come after.
#[test]
fn both_layouts_have_the_same_digests() {
    for json in [config_json(), air_json()] {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name| parent.path().join(name);
        let digests = |name, config: &ColmConfig, k| {
            let k = config.chain_count(k).unwrap();
            Checkpoint::open(&folder(name), config, k).unwrap().kv_digests().unwrap()
        };
        let config = parse(json.clone());
        write_chains(&folder("chains"), &config, Dtype::F32);
        write_dense(&folder("dense"), &config, Dtype::F32);
        let all = digests("chains", &config, 3);
        assert_eq!(digests("dense", &config, 3), all);
        assert_eq!(digests("chains", &config, 1), all[..1]);
        assert!(all[0] != all[1] && all[1] != all[2]);

        let other = parse(with(json, |json| json["rms_norm_eps"] = json!(1e-4)));
        assert_ne!(digests("chains", &other, 1)[0], all[0], "another config");
        write_chains(&folder("bf16"), &config, Dtype::BF16);
        assert_ne!(digests("bf16", &config, 1)[0], all[0], "other weights");
    }
}

#[test]
fn one_layout_is_rewritten_as_the_other() {
    let config = parse(air_json());
    let parent = tempfile::tempdir().unwrap();
    let (dense, chains) = (parent.path().join("dense"), parent.path().join("chains"));
    write_dense(&dense, &config, Dtype::BF16);
    let read = Checkpoint::open(&dense, &config, config.all_chains()).unwrap();
    write_chain_layout(&chains, &config, |tensor| Ok::<_, CheckpointError>(read.tensor(tensor)))
        .unwrap();
    assert_places(&chains, &config, 3, Dtype::BF16, Layout::Chains);
}

#[test]
fn a_written_folder_has_config_and_index_and_no_temporary_folder() {
    let (parent, dir) = folder();
    let config = parse(config_json());
    write_chains(&dir, &config, Dtype::F32);
    let again = ColmConfig::read(&dir.join("config.json")).unwrap();
    assert_eq!(again.chains, config.chains);
    assert_eq!(again.file.other["torch_dtype"], "float32");
    let index = fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(
        index["weight_map"]["lm_head.chains.2.weight"],
        "model-chain-00003-of-00003.safetensors"
    );
    let elements: usize =
        config.tensors(config.all_chains()).map(|t| t.shape().iter().product::<usize>()).sum();
    assert_eq!(index["metadata"]["total_size"], 4 * elements);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn k_chains_need_the_first_k_files_only() {
    let (_parent, dir) = folder();
    let config = parse(config_json());
    write_chains(&dir, &config, Dtype::F32);
    fs::remove_file(dir.join("model-chain-00003-of-00003.safetensors")).unwrap();
    for index in ["with", "without"] {
        assert_eq!(
            file_names(&files_for(&dir, &config, config.chain_count(2).unwrap()).unwrap()),
            ["model-chain-00001-of-00003.safetensors", "model-chain-00002-of-00003.safetensors"],
            "{index} an index"
        );
        assert_places(&dir, &config, 1, Dtype::F32, Layout::Chains);
        assert_places(&dir, &config, 2, Dtype::F32, Layout::Chains);
        let error = Checkpoint::open(&dir, &config, config.all_chains()).unwrap_err();
        assert!(matches!(error, CheckpointError::MissingFile { .. }), "{error}");
        assert!(error.to_string().contains("model-chain-00003-of-00003"), "{error}");
        let _ = fs::remove_file(dir.join("model.safetensors.index.json"));
    }
}

#[test]
fn chains_are_found_where_the_index_places_them() {
    let (_parent, dir) = folder();
    let config = parse(config_json());
    write_chains(&dir, &config, Dtype::F32);
    let index = dir.join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap().replace("model-chain-00002-of-00003", "second");
    fs::write(&index, text).unwrap();
    fs::rename(dir.join("model-chain-00002-of-00003.safetensors"), dir.join("second.safetensors"))
        .unwrap();
    assert_places(&dir, &config, 2, Dtype::F32, Layout::Chains);
}

#[test]
fn all_chains_may_be_in_one_file() {
    let (_parent, dir) = folder();
    let config = parse(config_json());
    fs::create_dir(&dir).unwrap();
    let tensors =
        config.tensors(config.all_chains()).map(|t| (t.name(), chain_tensor(Dtype::F32, &t)));
    safetensors::serialize_to_file(tensors, None, &dir.join("model.safetensors")).unwrap();
    assert_places(&dir, &config, 1, Dtype::F32, Layout::Chains);
    assert_places(&dir, &config, 3, Dtype::F32, Layout::Chains);
}

#[test]
fn a_dense_layout_may_be_sharded_with_or_without_index() {
    let (_parent, dir) = folder();
    let config = parse(config_json());
    fs::create_dir(&dir).unwrap();
    let mut weight_map = serde_json::Map::new();
    for (shard, file) in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        .into_iter()
        .enumerate()
    {
        let ids = config.tensor_ids().enumerate().filter(|(i, _)| i % 2 == shard).map(|(_, p)| p);
        let tensors: Vec<_> = ids
            .map(|id| {
                let shape = &config.dense_shapes(id)[0];
                (id.dense_name(), dense_tensor(Dtype::F32, &config, id, shape))
            })
            .collect();
        weight_map.extend(tensors.iter().map(|(name, _)| (name.clone(), file.into())));
        safetensors::serialize_to_file(tensors, None, &dir.join(file)).unwrap();
    }
    assert_places(&dir, &config, 2, Dtype::F32, Layout::Dense);
    let index = json!({ "metadata": {}, "weight_map": weight_map });
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_places(&dir, &config, 2, Dtype::F32, Layout::Dense);
}

#[test]
fn airs_dense_keys_may_stop_after_chain_1() {
    let (_parent, dir) = folder();
    let config = parse(air_json());
    fs::create_dir(&dir).unwrap();
    let tensors = config.tensor_ids().map(|id| {
        let shapes = config.dense_shapes(id);
        let narrow = &shapes[shapes.len() - 1];
        (id.dense_name(), dense_tensor(Dtype::F16, &config, id, narrow))
    });
    safetensors::serialize_to_file(tensors, None, &dir.join("model.safetensors")).unwrap();
    assert_places(&dir, &config, 3, Dtype::F16, Layout::Dense);
}

#[test]
fn a_view_of_another_shape_or_dtype_is_not_written() {
    let (parent, dir) = folder();
    let config = parse(config_json());
    let transposed = |tensor: &colm_checkpoint::ChainTensor| {
        let shape: Vec<usize> = tensor.shape().into_iter().rev().collect();
        Ok::<_, CheckpointError>(fill(Dtype::F32, &shape, |_, _| 1.))
    };
    let error = write_chain_layout(&dir, &config, transposed).unwrap_err();
    assert!(matches!(error, CheckpointError::Shape { .. }), "{error}");
    let doubles = |id: &TensorId| {
        let shape = config.dense_shapes(*id).remove(0);
        Ok::<_, CheckpointError>(fill(Dtype::F64, &shape, |_, _| 1.))
    };
    let error = write_dense_layout(&dir, &config, doubles).unwrap_err();
    assert!(matches!(error, CheckpointError::Dtype { found: Dtype::F64, .. }), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "a temporary folder remains");
}

#[test]
fn an_existing_folder_is_not_overwritten() {
    let (_parent, dir) = folder();
    let config = parse(config_json());
    write_chains(&dir, &config, Dtype::F32);
    let error = write_dense_layout(&dir, &config, |&id| {
        Ok::<_, CheckpointError>(dense_tensor(Dtype::F32, &config, id, &[1]))
    });
    assert!(matches!(error, Err(CheckpointError::AlreadyExists { .. })));
    assert_places(&dir, &config, 3, Dtype::F32, Layout::Chains);
}

/// Writes a dense CoLM checkpoint whose q_proj of layer 1 has `value` at each of `places`.
fn write_with_values(
    dir: &Path,
    config: &ColmConfig,
    dtype: Dtype,
    places: &[(usize, usize, f32)],
) {
    let query = TensorId::Weight { layer: 1, projection: Projection::Q };
    write_dense_layout(dir, config, |&id| {
        let shape = config.dense_shapes(id).remove(0);
        let mut tensor = dense_tensor(dtype, config, id, &shape);
        if id == query {
            for &(row, column, value) in places {
                let one = fill(dtype, &[1], |_, _| value).bytes;
                let begin = (row * shape[1] + column) * one.len();
                tensor.bytes[begin..begin + one.len()].copy_from_slice(&one);
            }
        }
        Ok::<_, CheckpointError>(tensor)
    })
    .unwrap();
}

#[test]
fn nonzero_values_above_the_diagonal_are_counted_and_located() {
    // q_proj is [32, 16]; chains own rows 0..16, 16..24, 24..32 and columns 0..8, 8..12, 12..16.
    let config = parse(config_json());
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (row, column) in [(0, 12), (3, 15), (15, 13)] {
            let (_parent, dir) = folder();
            let places = [(row, column, -0.5), (9, 14, 0.25), (0, 0, 0.)];
            write_with_values(&dir, &config, dtype, &places);
            let checkpoint = Checkpoint::open(&dir, &config, ChainCount::ONE).unwrap();
            let error = checkpoint.check_zero_submatrices().unwrap_err();
            let CheckpointError::NotZero { submatrix, .. } = &error else { panic!("{error}") };
            assert_eq!((submatrix.output_chain, submatrix.input_chain), (0, 2));
            assert_eq!((submatrix.rows.clone(), submatrix.columns.clone()), (0..16, 12..16));
            assert_eq!((submatrix.count, submatrix.largest), (2, 0.5));
            let message = error.to_string();
            for named in ["model.layers.1.self_attn.q_proj.weight", "chain 1", "chain 3", "2 of 64"]
            {
                assert!(message.contains(named), "no {named:?} in: {message}");
            }
        }
    }
}

#[test]
fn subnormals_and_nan_are_nonzero_and_minus_zero_is_zero() {
    let config = parse(config_json());
    let check = |value: f32| {
        let (_parent, dir) = folder();
        write_with_values(&dir, &config, Dtype::F32, &[(16, 12, value)]);
        Checkpoint::open(&dir, &config, config.all_chains()).unwrap().check_zero_submatrices()
    };
    check(-0.).unwrap();
    check(f32::from_bits(1)).unwrap_err();
    let error = check(f32::NAN).unwrap_err();
    let CheckpointError::NotZero { submatrix, .. } = error else { panic!("{error}") };
    assert!(submatrix.largest.is_nan());
    assert_eq!((submatrix.output_chain, submatrix.input_chain, submatrix.count), (1, 2, 1));
}

#[test]
fn airs_keys_must_be_zero_after_chain_1() {
    let (_parent, dir) = folder();
    let config = parse(air_json());
    let key = TensorId::Weight { layer: 0, projection: Projection::K };
    write_dense_layout(&dir, &config, |&id| {
        let shape = config.dense_shapes(id).remove(0);
        Ok::<_, CheckpointError>(if id == key {
            fill(Dtype::F32, &shape, |_, _| 1.)
        } else {
            dense_tensor(Dtype::F32, &config, id, &shape)
        })
    })
    .unwrap();
    let error = Checkpoint::open(&dir, &config, config.all_chains())
        .unwrap()
        .check_zero_submatrices()
        .unwrap_err();
    let CheckpointError::NotZero { submatrix, .. } = error else { panic!("{error}") };
    assert_eq!((submatrix.id, submatrix.columns.clone(), submatrix.count), (key, 8..12, 8 * 4));
}
