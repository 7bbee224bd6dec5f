//! Messages show names and values from files on one line, without terminal escapes, and abbreviated.

use std::fs;
use std::process::Command;

use colm_checkpoint::Dtype;
use serde_json::{json, Value};

use crate::folder::Folder;
use crate::malicious::{archive, safetensors};
use colm_testing::small_checkpoint::{config_json, fill, with};

const INDEX: &str = "model.safetensors.index.json";

/// A line break, a terminal escape, and a long text.
fn hostile() -> String {
    format!("a\nb\u{1b}[31m\u{202e}{}", "x".repeat(5_000))
}

/// Asserts that `line` can be printed.
fn assert_printable(line: &str) {
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    assert!(line.len() < 2_500, "{} bytes: {line}", line.len());
}

/// Asserts that all problems of `folder` are printable and that one shows the beginning of the hostile
/// text, escaped as here or as in JSON.
fn assert_shown(folder: &Folder) {
    let problems = folder.problems();
    problems.iter().for_each(|problem| assert_printable(problem));
    assert!(problems.iter().any(|problem| problem.contains(r"a\nb\u")), "{problems:#?}");
}

#[test]
fn names_in_an_index() {
    let name = hostile();
    for weight_map in [
        json!({"model.norm.weight": name}),
        json!({"model.norm.weight": "a\nb\u{1b}[31m"}),
        json!({ &name: "../x" }),
        json!({ &name: 1 }),
        json!({ &name: "model.safetensors" }),
    ] {
        let folder = Folder::dense();
        folder.write(INDEX, json!({ "weight_map": weight_map }).to_string());
        assert_shown(&folder);
    }
    let folder = Folder::chains();
    let text = fs::read_to_string(folder.path(INDEX)).unwrap();
    let twice = json!(name).to_string();
    let twice =
        text.replacen("{", &format!("{{\"weight_map\": {{{twice}: \"x\", {twice}: \"x\"}},"), 1);
    folder.write(INDEX, twice);
    assert_shown(&folder);
}

#[test]
fn names_of_tensors() {
    let name = hostile();
    let places = |begin, end| json!({"dtype": "U8", "shape": [4], "data_offsets": [begin, end]});
    for header in
        [json!({ &name: places(0, 4) }), json!({ &name: places(1, 4) }), json!({ &name: 1 })]
    {
        let folder = Folder::with_config(&config_json());
        folder.write("model.safetensors", safetensors(&header.to_string(), 4));
        assert_shown(&folder);
    }
    // In two files.
    let folder = Folder::with_config(&config_json());
    for file in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        let tensors = [(name.clone(), fill(Dtype::F32, &[1], |_, _| 0.))];
        folder.write(file, safetensors::serialize(tensors, None).unwrap());
    }
    assert_shown(&folder);

    let short = "a\nb\u{1b}[31m";
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    for name in [&name, short] {
        let folder = Folder::with_config(&config_json());
        let pickle = [b"}", &text(name)[..], b"K\x01s."].concat();
        folder.write("pytorch_model.bin", archive(&pickle));
        assert_shown(&folder);
    }
}

#[test]
fn fields_and_values_of_a_config() {
    let text = hostile();
    for field in
        ["architectures", "model_type", "hidden_act", "hidden_size", "chains", "rope_scaling"]
    {
        for value in
            [json!(text), json!([text]), json!({ &text: text }), json!({"rope_type": text})]
        {
            let config = with(config_json(), |json| json[field] = value);
            Folder::with_config(&config).problems().iter().for_each(|said| assert_printable(said));
        }
    }
    for config in [
        with(config_json(), |json| json["model_type"] = json!(text)),
        json!({"model_type": "llama", "architectures": [text]}),
        json!({"model_type": text}),
    ] {
        assert_shown(&Folder::with_config(&config));
    }
    let key = Value::from(text).to_string();
    let folder = Folder::empty();
    folder.write("config.json", format!("{{{key}: 1, {key}: 2}}"));
    assert_shown(&folder);
}

#[cfg(unix)]
#[test]
fn names_of_files_on_the_command_line() {
    let folder = Folder::chains();
    folder.write("model-chain-\n\u{1b}[31m.safetensors", "");
    for command in [&["verify"][..], &["inspect"], &["unpack", "never"]] {
        let mut convert = Command::new(env!("CARGO_BIN_EXE_colm-convert"));
        convert.arg(command[0]).arg(&folder.dir).args(&command[1..]);
        let output = convert.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        said.lines().for_each(assert_printable);
        assert!(said.contains(r"model-chain-\n\u{1b}[31m.safetensors"), "{said}");
    }
}
