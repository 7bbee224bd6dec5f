//! Files that cannot be read, and what is in place of a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use colm_testing::engine::{options, start_error};
use serde_json::json;

use super::model_folder::{
    remove, Folder, GENERATION_CONFIG, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG,
};

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_files_fail_with_file_and_field() {
    let bom = |file: &str| {
        let folder = Folder::new();
        let bytes = [b"\xef\xbb\xbf".as_slice(), &fs::read(folder.path(file)).unwrap()].concat();
        folder.with_bytes(file, &bytes)
    };
    for file in [TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG, "config.json"] {
        bom(file).refused(&[file, "byte-order mark"]).await;
    }
    for (text, names) in [("", "JSON"), ("{}", "Model missing"), ("[]", "invalid type")] {
        Folder::new().with_bytes(TOKENIZER, text.as_bytes()).refused(&[TOKENIZER, names]).await;
    }
    Folder::new().without(TOKENIZER).refused(&[TOKENIZER, "missing"]).await;
    let sentencepiece = Folder::new().without(TOKENIZER).with_bytes("tokenizer.model", b"\n\x0e");
    sentencepiece.refused(&[TOKENIZER, "tokenizer.model is not read"]).await;
    let without = Folder::new().with(TOKENIZER, |json| remove(json, &["added_tokens"]));
    without.refused(&[TOKENIZER, "added_tokens"]).await;
    let unknown =
        Folder::new().with(TOKENIZER, |json| json["pre_tokenizer"] = json!({"type": "New"}));
    unknown.refused(&[TOKENIZER]).await;
    let empty = Folder::new().with(TOKENIZER, |json| {
        json["model"]["vocab"] = json!({});
        json["model"]["merges"] = json!([]);
        json["added_tokens"] = json!([]);
    });
    let empty = empty.with(TOKENIZER_CONFIG, |json| remove(json, &["eos_token", "pad_token"]));
    empty.refused(&[TOKENIZER, "model.vocab"]).await;
    for (field, value) in [
        ("chat_template", json!(5)),
        ("chat_template", json!([])),
        ("chat_template", json!([{"name": "default"}])),
        ("chat_template", json!([{"name": "rag", "template": TEMPLATE}])),
        (
            "chat_template",
            json!([{"name": "default", "template": TEMPLATE}, {"name": "default", "template": TEMPLATE}]),
        ),
        (
            "chat_template",
            json!({"default": TEMPLATE, "tool_use": "{{ messages.nothing.at.all }}"}),
        ),
        ("chat_template", json!("{% if %}")),
        ("chat_template", json!("{{ messages[0].no.such.thing }}")),
        ("chat_template", json!("")),
        (
            "chat_template",
            json!("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        ),
        ("chat_template", json!("{{ messages|tojson(indent=1000000000) }}")),
        ("eos_token", json!(5)),
        ("eos_token", json!({"no": "content"})),
        ("additional_special_tokens", json!(5)),
        ("added_tokens_decoder", json!([1])),
        ("added_tokens_decoder", json!({"x": {"content": "a"}})),
    ] {
        let folder = Folder::new().with(TOKENIZER_CONFIG, |json| json[field] = value);
        folder.refused(&[TOKENIZER_CONFIG, field]).await;
    }
    for (field, value) in [
        ("temperature", json!(-1)),
        ("temperature", json!("warm")),
        ("top_p", json!(1.5)),
        ("top_k", json!(2.5)),
        ("repetition_penalty", json!(0)),
    ] {
        let folder = Folder::new().with(GENERATION_CONFIG, |json| json[field] = value);
        folder.refused(&[GENERATION_CONFIG, field]).await;
    }
    let infinite = Folder::new().with_text(GENERATION_CONFIG, "{", "{\"temperature\": Infinity,");
    infinite.refused(&[GENERATION_CONFIG, "temperature", "Infinity"]).await;
    let template = Folder::new().with_bytes("chat_template.jinja", b"\n{% nothing %}");
    template.refused(&["chat_template.jinja", "line 2"]).await;
    let template = Folder::new().with_bytes("chat_template.jinja", TEMPLATE.as_bytes());
    fs::create_dir(template.path("additional_chat_templates")).unwrap();
    let template =
        template.with_bytes("additional_chat_templates/tool_use.jinja", b"{% nothing %}");
    template.refused(&["additional_chat_templates/tool_use.jinja"]).await;
    for file in [TOKENIZER_CONFIG, "chat_template.jinja", GENERATION_CONFIG] {
        let folder = Folder::new();
        let _ = fs::remove_file(folder.path(file));
        symlink("nowhere", folder.path(file)).unwrap();
        folder.refused(&[file]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_place_of_a_file_fails_immediately() {
    for file in
        [TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG, "config.json", "chat_template.jinja"]
    {
        let folder = Folder::new();
        let _ = fs::remove_file(folder.path(file));
        assert!(Command::new("mkfifo").arg(folder.path(file)).status().unwrap().success());
        folder.refused(&[file, "FIFO"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_in_place_of_a_folder() {
    let parent = tempfile::tempdir().unwrap();
    let refused = |model: PathBuf| async move { start_error(&options(&model)).await };
    let gguf = parent.path().join("model.gguf");
    fs::write(&gguf, "GGUF").unwrap();
    assert!(refused(gguf).await.contains("is a GGUF file"));
    assert!(refused(parent.path().to_path_buf()).await.contains("model.gguf, a GGUF file"));
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused(empty).await.contains("is empty"));
}
