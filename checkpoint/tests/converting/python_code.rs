//! `--with-python`: the code of the Python package beside a checkpoint.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use colm_checkpoint::Dtype;
use serde_json::{json, Value};

use crate::model::{assert_error, convert, converted, names, tensors};
use colm_testing::small_checkpoint::{air_json, config_json, parse, with, write_chains};

/// Parts of the package that the model does not need.
const LEFT_OUT: [&str; 2] = ["__init__.py", "chain_freezing.py"];

/// The names and texts of the Python files in `dir`.
fn python_files(dir: &Path) -> Vec<(String, String)> {
    let names = names(dir).into_iter().filter(|name| name.ends_with(".py"));
    names
        .map(|name| {
            let text = fs::read_to_string(dir.join(&name)).unwrap();
            (name, text)
        })
        .collect()
}

/// The files of the Python package that the model needs.
fn files_of_the_package() -> Vec<(String, String)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/src/colm");
    let mut files = python_files(&package);
    files.retain(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    assert!(files.len() > 5, "{}", package.display());
    files
}

fn auto_map(dir: &Path) -> Value {
    let json = fs::read_to_string(dir.join("config.json")).unwrap();
    serde_json::from_str::<Value>(&json).unwrap()["auto_map"].clone()
}

/// A model as transformers saves it, with code of its own.
fn write_with_code(dir: &Path, json: Value) {
    let json = with(json, |json| json["auto_map"] = json!({"AutoConfig": "own.OwnConfig"}));
    write_chains(dir, &parse(json), Dtype::F32);
    fs::write(dir.join("own.py"), "raise SystemExit\n").unwrap();
    assert!(auto_map(dir).is_object());
}

#[test]
fn the_code_is_that_of_the_package() {
    for (json, classes) in [(config_json(), "Colm"), (air_json(), "ColmAir")] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        write_chains(&dir.join("base"), &parse(json), Dtype::F32);
        for arguments in [
            &["expand", "base", "expand", "--chains", "2,1,1,4"][..],
            &["extract", "base", "extract", "--chains", "2"],
            &["pack", "base", "pack"],
            &["cast", "base", "cast", "--dtype", "bf16"],
        ] {
            converted(dir, &[arguments, &["--with-python"]].concat());
            let written = dir.join(arguments[2]);
            assert_eq!(python_files(&written), files_of_the_package(), "{arguments:?}");
            let expected = json!({
                "AutoConfig": format!("configuration_colm.{classes}Config"),
                "AutoModel": format!("backbone.{classes}Model"),
                "AutoModelForCausalLM": format!("modeling_colm.{classes}ForCausalLM"),
            });
            assert_eq!(auto_map(&written), expected, "{arguments:?}");
            converted(dir, &["verify", arguments[2]]);
        }
        // Nothing else differs.
        converted(dir, &["pack", "base", "plain"]);
        assert_eq!(python_files(&dir.join("plain")), []);
        assert_eq!(auto_map(&dir.join("plain")), Value::Null);
        assert_eq!(tensors(&dir.join("plain")), tensors(&dir.join("pack")));
    }
}

/// transformers copies the named module and what it imports, so each must be there.
#[test]
fn what_the_code_imports_is_there() {
    let files = files_of_the_package();
    let names: BTreeSet<_> = files.iter().map(|(name, _)| name.trim_end_matches(".py")).collect();
    let mut count = 0;
    for (name, text) in &files {
        let imports = text.lines().filter_map(|line| line.trim().strip_prefix("from ."));
        for import in imports {
            let module = import.split(" import ").next().unwrap();
            assert!(names.contains(module), "{name} imports {module}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} imports");
}

/// A source may come from anywhere, so its code is not passed on.
#[test]
fn code_of_the_source_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_with_code(&dir.join("base"), config_json());
    for arguments in [
        &["expand", "base", "expand", "--chains", "2,1,1,4"][..],
        &["extract", "base", "extract", "--chains", "2"],
        &["extract", "base", "llama", "--chains", "1", "--as", "llama"],
        &["pack", "base", "pack"],
        &["unpack", "base", "unpack"],
        &["cast", "base", "cast", "--dtype", "bf16"],
    ] {
        converted(dir, arguments);
        let written = dir.join(arguments[2]);
        assert_eq!(python_files(&written), [], "{arguments:?}");
        assert_eq!(auto_map(&written), Value::Null, "{arguments:?}");
    }
    let planned = converted(dir, &["expand", "base", "x", "--chains", "2,1,1,4", "--dry-run"]);
    assert!(!planned.contains("auto_map"), "{planned}");
    converted(dir, &["pack", "base", "replaced", "--with-python"]);
    assert_eq!(python_files(&dir.join("replaced")), files_of_the_package());
    assert!(!auto_map(&dir.join("replaced")).to_string().contains("own"));
}

#[test]
fn the_code_is_refused_where_it_could_not_read_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("base"), &parse(config_json()), Dtype::F32);
    converted(dir, &["unpack", "base", "dense"]);
    let words = ["--with-python", "would be in the dense layout", "colm-convert pack"];
    for arguments in [
        &["expand", "base", "x", "--chains", "2,1,1,4", "--layout", "dense"][..],
        &["extract", "base", "x", "--chains", "1", "--layout", "dense"],
        &["extract", "dense", "x", "--chains", "1"],
        &["cast", "dense", "x", "--dtype", "bf16"],
    ] {
        assert_error(dir, &[arguments, &["--with-python"]].concat(), &words);
        assert!(!dir.join("x").exists(), "{arguments:?}");
    }
    for arguments in [
        &["unpack", "base", "x"][..],
        &["extract", "base", "x", "--chains", "1", "--as", "llama"],
        &["expand", "base", "x", "--chains", "2,1,1,4", "--dry-run"],
    ] {
        let output = convert(dir, &[arguments, &["--with-python"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
