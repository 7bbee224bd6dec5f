//! `verify` finds all problems, not only the first.

use std::collections::BTreeMap;
use std::fs;

use colm_checkpoint::verify::{verify, Problem};
use colm_checkpoint::{files_for, Checkpoint, CheckpointError, Dtype, Source};
use safetensors::SafeTensors;
use serde_json::{json, Value};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{
    air_json, config_json, fill, parse, with, write_dense, Tensor,
};

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const LAST: &str = "model-chain-00003-of-00003.safetensors";

fn change(folder: &Folder, file: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let bytes = fs::read(folder.path(file)).unwrap();
    let mut tensors: BTreeMap<_, _> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            (name.to_owned(), Tensor { dtype, shape, bytes: view.data().to_vec() })
        })
        .collect();
    change(&mut tensors);
    folder.write(file, safetensors::serialize(tensors, None).unwrap());
}

fn set(tensors: &mut BTreeMap<String, Tensor>, name: &str, element: usize, value: f32) {
    let tensor = tensors.get_mut(name).unwrap();
    tensor.bytes[4 * element..4 * element + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_complete_checkpoint_has_no_problems() {
    assert_eq!(Folder::chains().problems(), [""; 0]);
    assert_eq!(Folder::dense().problems(), [""; 0]);
    let air = Folder::filled(|dir| write_dense(dir, &parse(air_json()), Dtype::BF16));
    assert_eq!(air.problems(), [""; 0]);
}

#[test]
fn all_problems_are_listed() {
    let folder = Folder::dense();
    folder.write("tokenizer.json", "{\"model\": ");
    folder.write("generation_config.json", [0xff]);
    change(&folder, FILE, |tensors| {
        tensors.remove("model.norm.weight");
        tensors.insert("model.more".into(), fill(Dtype::F32, &[1], |_, _| 0.));
        let narrow = fill(Dtype::F32, &[24, 8], |_, _| 0.);
        tensors.insert("model.layers.1.mlp.up_proj.weight".into(), narrow);
        let wide = fill(Dtype::F64, &[16], |_, _| 0.);
        tensors.insert("model.layers.0.input_layernorm.weight".into(), wide);
        set(tensors, "lm_head.weight", 5, f32::NAN);
        set(tensors, "lm_head.weight", 7, f32::NEG_INFINITY);
        set(tensors, "model.layers.0.mlp.gate_proj.weight", 15, 1e-9);
        set(tensors, "model.layers.1.self_attn.o_proj.weight", 16, 1e-9);
    });
    let problems = folder.problems();
    let words = [
        &["tokenizer.json", "not valid JSON"][..],
        &["generation_config.json"],
        &["`model.norm.weight` is missing"],
        &["`model.more`", "not part of the model"],
        &["up_proj", "[24, 8]", "[24, 16]"],
        &["input_layernorm", "F64"],
        &["`lm_head.weight`", "1 values are NaN and 1 infinite", "element 5"],
        &["gate_proj", "chain 1 would read chain 3"],
        &["o_proj", "chain 1 would read chain 2"],
    ];
    for words in words {
        let found = problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)));
        assert!(found, "no {words:?} in {problems:#?}");
    }
    assert_eq!(problems.len(), words.len(), "{problems:#?}");
}

#[test]
fn index_and_files_are_compared() {
    let folder = Folder::chains();
    let name = "model.norm.chains.2.weight";
    change(&folder, LAST, |tensors| {
        tensors.remove(name);
    });
    folder.one_problem(&[name, LAST, "missing"]);

    let folder = Folder::dense();
    let text = fs::read(folder.path(FILE)).unwrap();
    let names = SafeTensors::deserialize(&text).unwrap();
    let known = names.names().into_iter().filter(|name| *name != "lm_head.weight");
    let weight_map: BTreeMap<_, _> = known.map(|name| (name, FILE)).collect();
    folder.write(INDEX, json!({ "weight_map": weight_map }).to_string());
    folder.one_problem(&["`lm_head.weight`", INDEX, "does not name it"]);
}

/// The index places tensors in another file than the one that holds them, which may then be in no entry at all.
#[test]
fn tensors_that_the_index_places_in_the_wrong_file() {
    let second = "model-chain-00002-of-00003.safetensors";
    let place_in_last = |which: &dyn Fn(&str, &str) -> bool| {
        let folder = Folder::chains();
        let mut index: Value =
            serde_json::from_slice(&fs::read(folder.path(INDEX)).unwrap()).unwrap();
        for (name, file) in index["weight_map"].as_object_mut().unwrap() {
            if which(name, file.as_str().unwrap()) {
                *file = json!(LAST);
            }
        }
        folder.write(INDEX, index.to_string());
        folder
    };
    let norm = "model.norm.chains.1.weight";
    let one = place_in_last(&|name, _| name == norm);
    one.one_problem(&[norm, INDEX, LAST, second, "it is in"]);

    let all = place_in_last(&|_, file| file == second);
    let problems = all.problems();
    assert_eq!(problems.len(), 12 * 2 - 3, "{problems:#?}");
    let [places, holds] = [LAST, second].map(|file| all.path(file));
    let words = format!("in {}, but it is in {};", places.display(), holds.display());
    assert!(problems.iter().all(|problem| problem.contains(&words)), "{problems:#?}");
    let error = Source::open(&all.dir).unwrap_err();
    assert!(matches!(error, CheckpointError::WrongFile { .. }), "{error}");
}

#[test]
fn one_bad_shard_does_not_hide_the_others() {
    let folder = Folder::chains();
    folder.write("model-chain-00002-of-00003.safetensors", "no header");
    change(&folder, LAST, |tensors| set(tensors, "model.norm.chains.2.weight", 1, f32::INFINITY));
    let problems = verify(&folder.dir, None, |_| ());
    let [Problem::Checkpoint(first), Problem::NotFinite { name, infinite: 1, first: 1, .. }] =
        problems.as_slice()
    else {
        panic!("{problems:#?}");
    };
    assert!(matches!(first, CheckpointError::Corrupt { .. }), "{first}");
    assert_eq!(name, "model.norm.chains.2.weight");
}

#[test]
fn an_invalid_config_hides_other_problems() {
    let folder = Folder::dense();
    let config: Value = with(config_json(), |json| json["hidden_size"] = json!(18));
    folder.write("config.json", config.to_string());
    folder.one_problem(&["config.json", "hidden_size", "chain 2"]);
    let config = with(config_json(), |json| json["quantization_config"] = json!({"bits": 4}));
    folder.write("config.json", config.to_string());
    folder.one_problem(&["config.json", "quantization_config", "not quantized"]);
    let config = with(config_json(), |json| json["quantization_config"] = Value::Null);
    folder.write("config.json", config.to_string());
    assert_eq!(folder.problems(), [""; 0]);
    Folder::empty().one_problem(&["config.json"]);
}

#[test]
fn half_precision_is_checked_too() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let config = parse(config_json());
        let folder = Folder::filled(|dir| write_dense(dir, &config, dtype));
        assert_eq!(folder.problems(), [""; 0]);
        change(&folder, FILE, |tensors| {
            let values = [-1., f32::NAN, f32::INFINITY, -0.5, -f32::NAN, f32::NEG_INFINITY];
            let norm = fill(dtype, &[16], |row, _| values[row % 6]);
            tensors.insert("model.norm.weight".into(), norm);
        });
        folder.one_problem(&[
            "`model.norm.weight`",
            "5 values are NaN and 5 infinite",
            "element 1",
        ]);
    }
}

#[test]
fn progress_ends_at_the_bytes_of_all_weights() {
    let folder = Folder::dense();
    let mut last = None;
    verify(&folder.dir, None, |progress| last = Some(progress));
    let last = last.unwrap();
    // The dense layout includes the zeros above the diagonal: 2 layers of 16x32, twice 16x16, 32x16 and
    // three times 24x16; embedding and head of 11x16, five norms of 16.
    let elements = 2 * (32 * 16 + 2 * 16 * 16 + 16 * 32 + 3 * 24 * 16) + 2 * 11 * 16 + 5 * 16;
    assert_eq!((last.done, last.total), (4 * elements, 4 * elements));
}

fn with_index(folder: &Folder, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut index: Value = serde_json::from_slice(&fs::read(folder.path(INDEX)).unwrap()).unwrap();
    change(index["weight_map"].as_object_mut().unwrap());
    folder.write(INDEX, index.to_string());
}

#[test]
fn an_index_names_only_tensors_of_the_model() {
    for (name, file) in [
        ("zz", "f.safetensors"),
        ("model.norm.chains.1.bias", "f.safetensors"),
        ("model.layers.9.input_layernorm.chains.0.weight", "f.safetensors"),
        ("model.norm.chains.3.weight", "f.safetensors"),
    ] {
        let folder = Folder::chains();
        with_index(&folder, |map| drop(map.insert(name.into(), json!(file))));
        folder.one_problem(&[&format!("`{name}`"), INDEX, "not part of the model"]);
    }
    // A device may hold the first chains only. The index still names the others.
    let folder = Folder::chains();
    fs::remove_file(folder.path(LAST)).unwrap();
    let config = parse(config_json());
    Checkpoint::open(&folder.dir, &config, config.chain_count(2).unwrap()).unwrap();
}

#[test]
fn an_index_of_more_wrong_names_than_can_be_listed() {
    let folder = Folder::chains();
    with_index(&folder, |map| {
        map.extend((0..5_000).map(|i| (format!("zz{i}"), json!("f.safetensors"))));
    });
    let problems = verify(&folder.dir, None, |_| ());
    assert_eq!(problems.len(), 1_001);
    assert_eq!(problems.iter().map(Problem::count).sum::<usize>(), 5_000);
    let last = problems.last().unwrap().to_string();
    assert!(last.contains("at least 4000 more problems are not listed"), "{last}");
}

#[test]
fn an_index_that_names_nothing() {
    let (config, words) = (parse(config_json()), "`weight_map` names no tensors");
    for folder in [Folder::chains(), Folder::dense()] {
        folder.write(INDEX, r#"{"metadata": {}, "weight_map": {}}"#);
        folder.one_problem(&[INDEX, words]);
        let error = files_for(&folder.dir, &config, config.all_chains()).unwrap_err().to_string();
        assert!(error.contains(INDEX) && error.contains(words), "{error}");
        assert!(Source::open(&folder.dir).unwrap_err().to_string().contains(words));
    }
}
