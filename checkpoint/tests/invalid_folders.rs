//! Invalid checkpoint folders, and their errors.

use std::fs;
use std::path::{Path, PathBuf};

use colm_checkpoint::{Checkpoint, CheckpointError, ColmConfig, Dtype};
use colm_testing::small_checkpoint::{
    chain_tensor, config_json, dense_tensor, fill, parse, with, write_chains, write_dense, Tensor,
};
use serde_json::{json, Value};
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-chain-00001-of-00003.safetensors";
const SECOND: &str = "model-chain-00002-of-00003.safetensors";
const NORM: &str = "model.norm.chains.1.weight";

struct Folder {
    config: ColmConfig,
    dir: PathBuf,
    _parent: TempDir,
}

impl Folder {
    fn new(write: impl FnOnce(&Path, &ColmConfig)) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let (dir, config) = (parent.path().join("model"), parse(config_json()));
        write(&dir, &config);
        Self { config, dir, _parent: parent }
    }

    fn chains() -> Self {
        Self::new(|dir, config| write_chains(dir, config, Dtype::F32))
    }

    fn dense() -> Self {
        Self::new(|dir, config| write_dense(dir, config, Dtype::F32))
    }

    /// The error of opening all three chains. It must name everything in `named`.
    fn open_error(&self, named: &[&str]) -> CheckpointError {
        let error =
            Checkpoint::open(&self.dir, &self.config, self.config.all_chains()).unwrap_err();
        let message = error.to_string();
        for word in named {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
        error
    }

    fn change_index(&self, change: impl FnOnce(&mut Value)) {
        let text = fs::read_to_string(self.dir.join(INDEX)).unwrap();
        let index = with(serde_json::from_str(&text).unwrap(), change);
        fs::write(self.dir.join(INDEX), index.to_string()).unwrap();
    }

    /// Rewrites the file of chain `chain` (from 0) with changed tensors.
    fn change_chain(&self, chain: usize, change: impl FnOnce(&mut Vec<(String, Tensor)>)) {
        let mut tensors: Vec<_> = self
            .config
            .tensors_of(chain)
            .map(|tensor| (tensor.name(), chain_tensor(Dtype::F32, &tensor)))
            .collect();
        change(&mut tensors);
        let file = format!("model-chain-{:05}-of-00003.safetensors", chain + 1);
        safetensors::serialize_to_file(tensors, None, &self.dir.join(file)).unwrap();
    }
}

#[test]
fn more_chains_than_there_are_or_none() {
    let folder = Folder::chains();
    for k in [0, 4] {
        let error = folder.config.chain_count(k).unwrap_err().to_string();
        assert_eq!(error, format!("chains {k}: expected 1 to 3"));
    }
}

#[test]
fn a_folder_that_is_absent_or_empty() {
    let absent = Folder::new(|_, _| {});
    let error = absent.open_error(&["model", "does not exist"]);
    assert!(matches!(error, CheckpointError::NotAFolder { .. }), "{error}");
    let empty = Folder::new(|dir, _| fs::create_dir(dir).unwrap());
    assert!(matches!(empty.open_error(&[INDEX]), CheckpointError::NoWeights { .. }));
}

#[test]
fn two_checkpoints_in_one_folder() {
    let folder = Folder::chains();
    fs::remove_file(folder.dir.join(INDEX)).unwrap();
    fs::copy(folder.dir.join(FIRST), folder.dir.join("model.safetensors")).unwrap();
    let error = folder.open_error(&["model.safetensors", FIRST]);
    assert!(matches!(error, CheckpointError::AmbiguousWeights { .. }), "{error}");
}

#[test]
fn a_file_the_index_names_is_missing() {
    let folder = Folder::chains();
    fs::remove_file(folder.dir.join(SECOND)).unwrap();
    let error = folder.open_error(&[SECOND, INDEX]);
    assert!(matches!(error, CheckpointError::MissingFile { .. }), "{error}");
}

#[test]
fn an_index_that_leaves_the_folder() {
    for file in
        ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", r"..\x", "./x"]
    {
        let folder = Folder::chains();
        folder.change_index(|index| index["weight_map"][NORM] = json!(file));
        let error = folder.open_error(&[INDEX, NORM, "plain name"]);
        assert!(matches!(error, CheckpointError::IndexPath { .. }), "{error}");
    }
}

#[test]
fn an_index_that_is_invalid() {
    for text in ["", "[]", "{}", r#"{"weight_map": {"a": 1}}"#] {
        let folder = Folder::chains();
        fs::write(folder.dir.join(INDEX), text).unwrap();
        assert!(matches!(folder.open_error(&[INDEX]), CheckpointError::JsonFile { .. }));
    }
    // serde would read a list as the fields in order.
    let folder = Folder::chains();
    let text = fs::read_to_string(folder.dir.join(INDEX)).unwrap();
    let Value::Object(fields) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    let in_order = json!([fields["metadata"], fields["weight_map"]]);
    for list in [json!([]), in_order] {
        fs::write(folder.dir.join(INDEX), list.to_string()).unwrap();
        folder.open_error(&[INDEX, "invalid type: list, expected a map"]);
    }
}

#[test]
fn a_tensor_that_is_missing_from_the_index() {
    let folder = Folder::chains();
    folder.change_index(|index| {
        index["weight_map"].as_object_mut().unwrap().remove(NORM);
    });
    let error = folder.open_error(&[NORM, INDEX]);
    assert!(matches!(error, CheckpointError::MissingTensor { .. }), "{error}");
}

#[test]
fn an_index_that_names_the_wrong_file() {
    let folder = Folder::chains();
    folder.change_index(|index| index["weight_map"][NORM] = json!(FIRST));
    let error = folder.open_error(&[NORM, INDEX, FIRST, SECOND, "it is in"]);
    assert!(matches!(error, CheckpointError::WrongFile { .. }), "{error}");
}

#[test]
fn a_tensor_that_is_missing_from_its_file() {
    for index in [true, false] {
        let folder = Folder::chains();
        folder.change_chain(1, |tensors| tensors.retain(|(name, _)| name != NORM));
        if !index {
            fs::remove_file(folder.dir.join(INDEX)).unwrap();
        }
        let error = folder.open_error(&[NORM, SECOND]);
        assert!(matches!(error, CheckpointError::MissingTensor { .. }), "{error}");
    }
}

#[test]
fn a_missing_dense_tensor() {
    let mut folder = Folder::dense();
    folder.config = parse(with(config_json(), |json| json["num_hidden_layers"] = json!(3)));
    let error = folder.open_error(&["model.layers.2.", "model.safetensors"]);
    assert!(matches!(error, CheckpointError::MissingTensor { .. }), "{error}");
}

#[test]
fn a_tensor_of_another_shape() {
    let folder = Folder::chains();
    folder.change_chain(1, |tensors| {
        let norm = tensors.iter_mut().find(|(name, _)| name == NORM).unwrap();
        norm.1 = fill(Dtype::F32, &[5], |_, _| 1.);
    });
    let error = folder.open_error(&[NORM, SECOND, "[5]", "expected [4]"]);
    assert!(matches!(error, CheckpointError::Shape { .. }), "{error}");
}

#[test]
fn a_dense_tensor_of_another_shape() {
    let mut folder = Folder::dense();
    folder.config = parse(with(config_json(), |json| json["vocab_size"] = json!(12)));
    folder.open_error(&["[11, 16]", "expected [12, 16]"]);
}

#[test]
fn a_tensor_of_64_bits() {
    let folder = Folder::chains();
    folder.change_chain(1, |tensors| {
        let norm = tensors.iter_mut().find(|(name, _)| name == NORM).unwrap();
        norm.1 = fill(Dtype::F64, &[4], |_, _| 1.);
    });
    let error = folder.open_error(&[NORM, SECOND, "F64", "BF16"]);
    assert!(matches!(error, CheckpointError::Dtype { found: Dtype::F64, .. }), "{error}");
}

#[test]
fn a_file_that_is_truncated_or_not_safetensors() {
    let whole = fs::read(Folder::chains().dir.join(SECOND)).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..100], &whole[..4], &[], &[0xff; 64]] {
        let folder = Folder::chains();
        fs::write(folder.dir.join(SECOND), bytes).unwrap();
        let error = folder.open_error(&[SECOND]);
        assert!(matches!(error, CheckpointError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_tensor_in_two_files() {
    let folder = Folder::chains();
    folder.change_chain(0, |tensors| {
        tensors.push((NORM.into(), fill(Dtype::F32, &[4], |_, _| 1.)));
    });
    let error = folder.open_error(&[NORM, FIRST, SECOND]);
    assert!(matches!(error, CheckpointError::DuplicateTensor { .. }), "{error}");
}

#[test]
fn files_of_another_number_of_chains() {
    let folder = Folder::chains();
    for stray in
        ["model-chain-00005-of-00005.safetensors", "model-chain-00004-of-00003.safetensors"]
    {
        fs::copy(folder.dir.join(FIRST), folder.dir.join(stray)).unwrap();
        let error = folder.open_error(&[stray, "3 entries", FIRST]);
        assert!(matches!(error, CheckpointError::WrongChainFile { .. }), "{error}");
        fs::remove_file(folder.dir.join(stray)).unwrap();
    }
}

#[test]
fn a_chain_beyond_the_config_in_index_or_file() {
    let beyond = "model.norm.chains.3.weight";
    let folder = Folder::chains();
    folder.change_index(|index| index["weight_map"][beyond] = json!(SECOND));
    folder.open_error(&[beyond, INDEX, "0 to 2"]);

    let folder = Folder::chains();
    folder.change_chain(2, |tensors| {
        tensors.push((beyond.into(), fill(Dtype::F32, &[4], |_, _| 1.)));
    });
    folder.open_error(&[beyond, "model-chain-00003-of-00003", "0 to 2"]);
}

#[test]
fn rotary_frequencies_are_ignored_in_the_chain_layout_too() {
    let folder = Folder::chains();
    folder.change_chain(0, |tensors| {
        for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"] {
            tensors.push((name.into(), fill(Dtype::F32, &[4], |_, _| 1.)));
        }
    });
    Checkpoint::open(&folder.dir, &folder.config, folder.config.all_chains()).unwrap();
}

#[test]
fn a_tensor_that_the_model_does_not_have() {
    let unused = [
        ("model.layers.0.self_attn.q_proj.chains.0.bias", "attention_bias"),
        ("model.layers.7.input_layernorm.chains.0.weight", "layers and chains"),
    ];
    for (name, why) in unused {
        let folder = Folder::chains();
        folder.change_chain(0, |tensors| {
            tensors.push((name.into(), fill(Dtype::F32, &[4], |_, _| 1.)));
        });
        let error = folder.open_error(&[name, FIRST, why]);
        assert!(matches!(error, CheckpointError::UnexpectedTensor { .. }), "{error}");
    }
    let folder = Folder::chains();
    let names =
        ["foo.bar", "model.layers.0.foo.weight", "model.layers.0.self_attn.x.chains.0.bias"];
    folder.change_chain(0, |tensors| {
        tensors.extend(names.map(|name| (name.into(), fill(Dtype::F32, &[4], |_, _| 1.))));
    });
    folder.open_error(&names);
    let mut tied = Folder::dense();
    tied.config = parse(with(config_json(), |json| json["tie_word_embeddings"] = json!(true)));
    tied.open_error(&["lm_head.weight", "`tie_word_embeddings` is true"]);
}

#[test]
fn rope_frequencies_of_old_llamas_are_ignored() {
    let folder = Folder::dense();
    let tensors = folder
        .config
        .tensor_ids()
        .map(|id| {
            let shape = folder.config.dense_shapes(id).remove(0);
            (id.dense_name(), dense_tensor(Dtype::F32, &folder.config, id, &shape))
        })
        .chain([(
            "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
            fill(Dtype::F32, &[2], |_, _| 1.),
        )]);
    safetensors::serialize_to_file(tensors, None, &folder.dir.join("model.safetensors")).unwrap();
    Checkpoint::open(&folder.dir, &folder.config, folder.config.all_chains()).unwrap();
}

#[test]
fn mixed_layouts() {
    let folder = Folder::chains();
    folder.change_chain(1, |tensors| {
        tensors.push(("model.norm.weight".into(), fill(Dtype::F32, &[16], |_, _| 1.)));
    });
    let error = folder.open_error(&["`model.norm.weight`", ".chains.", SECOND]);
    assert!(matches!(error, CheckpointError::MixedLayouts { .. }), "{error}");
}
