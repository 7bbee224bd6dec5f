//! Every conversion reads the paper's conventions, and gives what it gives for the same model in the chain layout.

use std::fs;

use colm_checkpoint::inspect::{inspect, widths};
use colm_checkpoint::{ColmConfig, Dtype, Layout, Source};
use colm_testing::folders::golden;
use half::{bf16, f16};
use serde_json::json;

use crate::folder::{assert_same, model, Folder, AIR, COLM, FILE};
use crate::state_dict::{entries, state_dict, Entry};

/// Fails without either permutation: `make_golden.py` computes the same logits from both folders, each by a model of
/// its own.
#[test]
fn a_packed_model_is_that_of_the_chain_layout() {
    for name in [COLM, AIR] {
        let folder = Folder::golden(name);
        folder.convert(&["pack", "model", "packed"]);
        assert!(folder.convert(&["verify", "packed"]).contains("packed: no problems"));
        let twin = golden().join(name);
        assert_same(&model(&folder.beside("packed")), &model(&twin));

        let [found, expected] =
            [&folder.beside("packed"), &twin].map(|dir| ColmConfig::read(&dir.join("config.json")));
        let (found, expected) = (found.unwrap(), expected.unwrap());
        assert_eq!(found.architecture, expected.architecture);
        assert_eq!(found.file.chains, expected.file.chains);
        assert_eq!(widths(&found), widths(&expected));
        assert_eq!(found.rope_scaling, expected.rope_scaling);
        let (found, expected) = (found.file, expected.file);
        assert_eq!(found.vocab_size, expected.vocab_size);
        assert_eq!(found.num_hidden_layers, expected.num_hidden_layers);
        assert_eq!(found.max_position_embeddings, expected.max_position_embeddings);
        assert_eq!(found.rope_theta, expected.rope_theta);
        assert_eq!(found.rms_norm_eps, expected.rms_norm_eps);
        assert_eq!(found.tie_word_embeddings, expected.tie_word_embeddings);
        assert_eq!(found.other["torch_dtype"], "float32");
    }
}

#[test]
fn the_other_commands_read_it_too() {
    for name in [COLM, AIR] {
        let folder = Folder::golden(name);
        assert!(folder.convert(&["verify", "model"]).contains("model: no problems"));
        let twin = golden().join(name);
        let twin = twin.to_str().unwrap();
        let conversions: [&[&str]; 5] = [
            &["unpack"],
            &["extract", "--chains", "1"],
            &["extract", "--chains", "2", "--layout", "dense"],
            &[
                "expand",
                "--add",
                "hidden=8,heads=4,intermediate=8",
                "--seed",
                "1",
                "--init",
                "zero",
            ],
            &["cast", "--dtype", "bf16"],
        ];
        for conversion in conversions {
            let (command, options) = conversion.split_first().unwrap();
            folder.convert(&[&[*command, "model", "ours"], options].concat());
            folder.convert(&[&[*command, twin, "theirs"], options].concat());
            let [ours, theirs] = ["ours", "theirs"].map(|name| folder.beside(name));
            assert_same(&model(&ours), &model(&theirs));
            fs::remove_dir_all(ours).unwrap();
            fs::remove_dir_all(theirs).unwrap();
        }
    }
}

#[test]
fn inspect_gives_the_costs_of_the_chain_layout() {
    for name in [COLM, AIR] {
        let folder = Folder::golden(name);
        let (found, expected) =
            (inspect(&folder.dir).unwrap(), inspect(&golden().join(name)).unwrap());
        assert_eq!((found.layout, found.is_llama), (Some("paper"), false));
        assert_eq!((found.architecture, found.widths), (expected.architecture, expected.widths));
        assert_eq!(found.dtypes, expected.dtypes);
        for (found, expected) in found.costs.iter().zip(&expected.costs) {
            assert_eq!(found.parameters, expected.parameters);
            assert_eq!(found.memory_bytes, expected.memory_bytes);
            assert_eq!(found.files, Some(vec![FILE.to_owned()]));
        }
        assert!(folder.convert(&["inspect", "model"]).contains("layout paper, F32"));
        // The config alone.
        folder.remove(FILE);
        assert_eq!(inspect(&folder.dir).unwrap().layout, None);
    }
}

#[test]
fn the_nearest_layout_is_that_of_chains() {
    assert_eq!(Source::open(&Folder::golden(AIR).dir).unwrap().layout(), Layout::Chains);
}

/// The values of each dtype are moved, not converted.
#[test]
fn dtypes_are_kept() {
    for name in [COLM, AIR] {
        for (option, torch_name, dtype) in
            [("bf16", "bfloat16", Dtype::BF16), ("f16", "float16", Dtype::F16)]
        {
            let folder = Folder::golden(name);
            folder.change_tensors(|tensors| {
                for tensor in tensors.values_mut() {
                    let (values, _) = tensor.bytes.as_chunks();
                    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    tensor.bytes = match dtype {
                        Dtype::BF16 => {
                            values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect()
                        }
                        _ => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                    };
                    tensor.dtype = dtype;
                }
            });
            let twin = golden().join(name);
            folder.convert(&["pack", "model", "packed"]);
            folder.convert(&["cast", twin.to_str().unwrap(), "cast", "--dtype", option]);
            let [packed, cast] = ["packed", "cast"].map(|name| folder.beside(name));
            assert_same(&model(&packed), &model(&cast));
            let config = ColmConfig::read(&packed.join("config.json")).unwrap();
            assert_eq!(config.file.other["torch_dtype"], torch_name);
        }
    }
}

#[test]
fn pytorch_files_of_any_name_are_read() {
    let folder = Folder::golden(AIR);
    let tensors = folder.tensors();
    folder.remove(FILE);
    let assert_read = |files: &[(&str, Vec<u8>)]| {
        for (file, bytes) in files {
            folder.write(file, bytes);
        }
        assert_eq!(folder.problems(), [""; 0]);
        folder.convert(&["pack", "model", "packed", "--force"]);
        assert_same(&model(&folder.beside("packed")), &model(&golden().join(AIR)));
        files.iter().for_each(|(file, _)| folder.remove(file));
    };
    assert_read(&[("consolidated.00.pth", state_dict(entries(&tensors)))]);
    let (mut first, mut second) = (entries(&tensors), entries(&tensors));
    first.truncate(7);
    second.drain(..7);
    assert_read(&[("a.pt", state_dict(first)), ("b.pth", state_dict(second))]);
    // Beside a usual name, others hold something else.
    let model_file = ("model.pt", state_dict(entries(&tensors)));
    assert_read(&[model_file, ("optimizer.pt", b"not looked at".to_vec())]);

    // What a training run saves: the model as an entry of its own, or beside other entries.
    let mut model_entries = entries(&tensors);
    model_entries.push(("freqs_cis".into(), Entry::Complex));
    let nested = vec![
        ("model".into(), Entry::Map(model_entries)),
        ("optimizer".into(), Entry::Map(vec![("lr".into(), Entry::Number(1))])),
    ];
    assert_read(&[("checkpoint.pt", state_dict(nested))]);
    let mut beside = entries(&tensors);
    beside.push(("train_state".into(), Entry::Map(vec![("step".into(), Entry::Number(9))])));
    assert_read(&[("checkpoint.pt", state_dict(beside))]);
}

#[test]
fn safetensors_files_may_have_any_names_and_an_index() {
    let folder = Folder::golden(COLM);
    let mut first = folder.tensors();
    let second = first.split_off("layers.1");
    folder.remove(FILE);
    folder.write_tensors("x.safetensors", &first);
    folder.write_tensors("y.safetensors", &second);
    // Safetensors files come first.
    folder.write("z.pth", "not looked at");
    assert_eq!(folder.problems(), [""; 0]);
    let map = |file: &str, tensors: &crate::folder::Tensors| {
        tensors.keys().map(|name| (name.clone(), json!(file))).collect::<Vec<_>>()
    };
    let weight_map: serde_json::Map<_, _> =
        map("x.safetensors", &first).into_iter().chain(map("y.safetensors", &second)).collect();
    folder.write("model.safetensors.index.json", json!({ "weight_map": weight_map }).to_string());
    assert_eq!(folder.problems(), [""; 0]);
    folder.convert(&["pack", "model", "packed"]);
    assert_same(&model(&folder.beside("packed")), &model(&golden().join(COLM)));
}

#[test]
fn tied_embeddings_need_no_head() {
    let folder = Folder::golden(COLM);
    folder.change_tensors(|tensors| drop(tensors.remove("output.weight")));
    folder.assert_error(&["`output.weight` is missing", "`tie_word_embeddings` true", FILE]);
    folder.change_params(|params| params["tie_word_embeddings"] = json!(true));
    assert_eq!(folder.problems(), [""; 0]);
    folder.convert(&["pack", "model", "packed"]);
    let mut expected = model(&golden().join(COLM));
    expected.retain(|name, _| !name.starts_with("lm_head"));
    assert_same(&model(&folder.beside("packed")), &expected);
    let config = ColmConfig::read(&folder.beside("packed/config.json")).unwrap();
    assert!(config.file.tie_word_embeddings);

    // A copy is accepted, another head is not.
    folder.change_tensors(|tensors| {
        tensors.insert("output.weight".into(), tensors["tok_embeddings.weight"].clone());
    });
    assert_eq!(folder.problems(), [""; 0]);
    folder.change_tensors(|tensors| {
        tensors.get_mut("output.weight").unwrap().bytes[0] ^= 1;
    });
    folder.assert_error(&[
        "`output.weight`",
        FILE,
        "`tok_embeddings.weight`",
        "tie_word_embeddings",
    ]);
}

#[test]
fn tokenizer_files_are_copied_and_do_not_block() {
    let folder = Folder::golden(AIR);
    folder.write("tokenizer.model", "a vocabulary of sentencepiece");
    let said = folder.convert(&["pack", "model", "packed"]);
    assert!(said.contains("tokenizer.model is not read; add tokenizer.json"), "{said}");
    assert!(folder.beside("packed/tokenizer.model").exists());
    folder.write("tokenizer.json", "{}");
    let said = folder.convert(&["pack", "model", "packed", "--force"]);
    assert!(!said.contains("note"), "{said}");
    assert_eq!(fs::read(folder.beside("packed/tokenizer.json")).unwrap(), b"{}");
    let output = folder.run(&["pack", "model", "packed"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("exists already"), "{said}");
}
