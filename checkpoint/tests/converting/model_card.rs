//! A converted model has no card that describes another model, and still names its source.

use std::fs;
use std::path::Path;

use colm_checkpoint::Dtype;

use crate::model::{converted, names};
use colm_testing::small_checkpoint::{config_json, parse, with, write_chains};

const DOCUMENTS: [(&str, &str); 4] = [
    ("README.md", "# Three chains"),
    ("README.de.md", "# Drei Teile"),
    ("LICENSE-MIT", "the license"),
    ("NOTICE", "the notice"),
];

fn write_documents(dir: &Path) {
    DOCUMENTS.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
}

/// Names and texts of the documents in `dir`.
fn documents(dir: &Path) -> Vec<(String, String)> {
    let is_document =
        |name: &String| ["README", "LICENSE", "NOTICE"].iter().any(|word| name.contains(word));
    let names = names(dir).into_iter().filter(is_document);
    names.map(|name| (name.clone(), fs::read_to_string(dir.join(name)).unwrap())).collect()
}

fn pairs(documents: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> =
        documents.iter().map(|&(name, text)| (name.into(), text.into())).collect();
    pairs.sort();
    pairs
}

#[test]
fn the_card_stays_with_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("model"), &parse(config_json()), Dtype::F32);
    write_documents(&dir.join("model"));
    fs::write(dir.join("model/SOURCE_README.md"), "# Its Llama").unwrap();
    converted(dir, &["unpack", "model", "dense"]);
    converted(dir, &["pack", "dense", "packed", "--with-python"]);
    let expected = pairs(&[&DOCUMENTS[..], &[("SOURCE_README.md", "# Its Llama")]].concat());
    for name in ["dense", "packed"] {
        assert_eq!(documents(&dir.join(name)), expected, "{name}");
    }
}

#[test]
fn another_model_has_the_card_of_its_source_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("model"), &parse(config_json()), Dtype::F32);
    write_documents(&dir.join("model"));
    let mut expected = DOCUMENTS;
    expected[0].0 = "SOURCE_README.md";
    expected[1].0 = "SOURCE_README.de.md";
    for arguments in [
        &["extract", "model", "new", "--chains", "1", "--as", "llama"][..],
        &["extract", "model", "new", "--chains", "2"],
        &["expand", "model", "new", "--chains", "2,1,1,4"],
        &["cast", "model", "new", "--dtype", "bf16"],
    ] {
        converted(dir, arguments);
        assert_eq!(documents(&dir.join("new")), pairs(&expected), "{arguments:?}");
        // Without a card of its own, the same once more.
        converted(dir, &["cast", "new", "again", "--dtype", "f32"]);
        assert_eq!(documents(&dir.join("again")), pairs(&expected), "{arguments:?}");
        ["new", "again"].iter().for_each(|name| fs::remove_dir_all(dir.join(name)).unwrap());
    }
    // With one, both are kept.
    converted(dir, &["extract", "model", "first", "--chains", "1"]);
    fs::write(dir.join("first/README.md"), "# One chain").unwrap();
    converted(dir, &["cast", "first", "small", "--dtype", "bf16"]);
    expected[0].0 = "SOURCE_SOURCE_README.md";
    let expected = pairs(&[&expected[..], &[("SOURCE_README.md", "# One chain")]].concat());
    assert_eq!(documents(&dir.join("small")), expected);
    converted(dir, &["verify", "small"]);
}

/// The card of a Llama does not describe a CoLM, not even one of the same weights.
#[test]
fn a_packed_llama_has_no_card() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let one = with(config_json(), |json| json["chains"] = [1].into());
    write_chains(&dir.join("one"), &parse(one), Dtype::F32);
    converted(dir, &["extract", "one", "llama", "--chains", "1", "--as", "llama"]);
    fs::write(dir.join("llama/README.md"), "# A Llama").unwrap();
    for command in ["pack", "unpack"] {
        converted(dir, &[command, "llama", command]);
        assert_eq!(documents(&dir.join(command)), pairs(&[("SOURCE_README.md", "# A Llama")]));
    }
}
