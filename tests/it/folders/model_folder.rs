//! A copy of the shipped model with some files changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use colm::{FinishReason, Message, Prompt, Request};
use colm_testing::engine::{engine, options, start_error};
use colm_testing::folders::shipped;
use serde_json::Value;
use tempfile::TempDir;

pub const MODEL: &str = "tiny-colm-air";
pub const QUESTION: &str = "What is the remainder of 47 divided by 6?";
pub const ANSWER: &str = "5";

/// A shorter form of the chat template of the shipped model.
pub const TEMPLATE: &str =
    "{%- for m in messages -%}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' }}{%- endfor -%}\
                        {{ '<|assistant|>' }}";

/// A copy of the shipped model with some files changed.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(shipped(MODEL)).unwrap() {
            let path = entry.unwrap().path();
            let name = folder.path().join(path.file_name().unwrap());
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                symlink(&path, name).unwrap();
            } else {
                fs::copy(&path, name).unwrap();
            }
        }
        Self(folder)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn without(self, file: &str) -> Self {
        fs::remove_file(self.path(file)).unwrap();
        self
    }

    pub fn with_bytes(self, file: &str, bytes: &[u8]) -> Self {
        fs::write(self.path(file), bytes).unwrap();
        self
    }

    /// Applies `change` to a JSON file.
    pub fn with(self, file: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut json: Value = serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap();
        change(&mut json);
        let text = json.to_string();
        self.with_bytes(file, text.as_bytes())
    }

    /// Sets the chat template to `source`.
    pub fn with_template(self, source: &str) -> Self {
        self.with("tokenizer_config.json", |json| json["chat_template"] = source.into())
    }

    /// Replaces `from`, which must be there, in the text of a file.
    pub fn with_text(self, file: &str, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{from} is not in {file}");
        self.with_bytes(file, text.replace(from, to).as_bytes())
    }

    pub async fn answer(&self) -> String {
        let engine = engine(&options(self.0.path())).await;
        let prompt = Prompt::Chat(vec![Message::user(QUESTION)]);
        let answer = engine.answer(Request::new(prompt).max_tokens(12)).await.unwrap();
        assert_eq!(answer.finish_reason, FinishReason::Stop, "{}", answer.text);
        answer.text
    }

    pub async fn refused(&self, names: &[&str]) {
        let error = start_error(&options(self.0.path())).await;
        for name in names {
            assert!(error.contains(name), "`{name}` is missing in: {error}");
        }
    }
}

pub fn remove(json: &mut Value, fields: &[&str]) {
    let object = json.as_object_mut().unwrap();
    fields.iter().for_each(|field| drop(object.remove(*field)));
}

pub const TOKENIZER: &str = "tokenizer.json";
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub const GENERATION_CONFIG: &str = "generation_config.json";
