//! Unusual model folders load as in transformers, or fail with an error that names file and field.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use colm::{FinishReason, Message, Prompt, Quantization, Request};
use colm_testing::engine::{engine, options, start_error};
use colm_testing::folders::shipped;
use serde_json::{json, Value};
use tempfile::TempDir;

const MODEL: &str = "tiny-colm-air";
const QUESTION: &str = "What is the remainder of 47 divided by 6?";
pub const ANSWER: &str = "5";
/// A shorter form of the chat template of the shipped model.
pub const TEMPLATE: &str =
    "{%- for m in messages -%}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' }}{%- endfor -%}\
                        {{ '<|assistant|>' }}";

/// A copy of the shipped model with some files changed.
pub struct Folder(TempDir);

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

    fn without(self, file: &str) -> Self {
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
    fn with_text(self, file: &str, from: &str, to: &str) -> Self {
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
const GENERATION_CONFIG: &str = "generation_config.json";

#[tokio::test(flavor = "multi_thread")]
async fn the_end_token_is_read_from_any_file() {
    let no_eos = || {
        let folder = Folder::new().without(GENERATION_CONFIG).with_template(TEMPLATE);
        folder.with(TOKENIZER_CONFIG, |json| remove(json, &["eos_token", "pad_token"]))
    };
    // config.json names the end token too.
    assert_eq!(no_eos().answer().await, ANSWER);
    let lists = Folder::new().with(GENERATION_CONFIG, |json| json["eos_token_id"] = json!([0, 5]));
    assert_eq!(lists.answer().await, ANSWER);
    let object =
        json!({"__type": "AddedToken", "content": "<|end|>", "lstrip": false, "special": true});
    let object = Folder::new().with(TOKENIZER_CONFIG, |json| json["eos_token"] = object);
    assert_eq!(object.answer().await, ANSWER);
    // An id outside the vocabulary never occurs.
    for id in [json!(-1), json!(5000), json!([0, 768])] {
        let unknown = Folder::new().with(GENERATION_CONFIG, |json| json["eos_token_id"] = id);
        assert_eq!(unknown.answer().await, ANSWER);
    }
    let unknown = Folder::new().with(TOKENIZER_CONFIG, |json| json["eos_token"] = "</s>".into());
    assert_eq!(unknown.answer().await, ANSWER);
    let alone = no_eos().with("config.json", |json| json["eos_token_id"] = json!([768, -2]));
    alone.refused(&["config.json", "eos_token_id", "768"]).await;
    let text = Folder::new().with(GENERATION_CONFIG, |json| json["eos_token_id"] = "0".into());
    text.refused(&[GENERATION_CONFIG, "eos_token_id"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_files_that_transformers_accepts_load() {
    let special = json!([{"content": "<|user|>", "lstrip": false, "normalized": false}]);
    let config = |change: fn(&mut Value)| Folder::new().with(TOKENIZER_CONFIG, change);
    for folder in [
        Folder::new().with(TOKENIZER_CONFIG, |json| json["additional_special_tokens"] = special),
        config(|json| json["sp_model_kwargs"] = json!({"enable_sampling": true, "nbest_size": -1})),
        config(|json| json["added_tokens_decoder"] = Value::Null),
        Folder::new().with_text(
            TOKENIZER_CONFIG,
            "\"model_max_length\": 1024",
            "\"model_max_length\": Infinity",
        ),
        Folder::new().with(GENERATION_CONFIG, |json| {
            json["temperature"] = Value::Null;
            json["top_k"] = Value::Null;
            json["cache_implementation"] = "static".into();
        }),
        // Named templates, and templates in separate files.
        config(|json| {
            let source = json["chat_template"].clone();
            json["chat_template"] = json!([
                {"name": "default", "template": source},
                {"name": "tool_use", "template": "{{ raise_exception('tools') }}"},
            ]);
        }),
        config(|json| json["chat_template"] = "{{ raise_exception('the old one') }}".into())
            .with_bytes("chat_template.jinja", TEMPLATE.as_bytes()),
        config(|json| remove(json, &["chat_template"])).with_bytes(
            "chat_template.json",
            json!({"chat_template": TEMPLATE}).to_string().as_bytes(),
        ),
        // A null token does not become a template variable.
        config(|json| {
            json["chat_template"] = format!("{{{{ bos_token }}}}{TEMPLATE}").into();
        }),
        Folder::new().with_template(
            "{%- for m in messages -%}{%- if loop.index > 9 -%}{%- break -%}{%- elif m.role == 'x' -%}\
             {%- continue -%}{%- endif -%}{%- generation -%}{{ '<|' ~ m.role ~ '|>' ~ m.content }}\
             {%- endgeneration -%}<|end|>{%- endfor -%}<|assistant|>",
        ),
        Folder::new().with(TOKENIZER, |json| {
            json["truncation"] = json!({
                "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
            });
            json["padding"] = json!({
                "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "<|end|>",
            });
        }),
        Folder::new().with("config.json", |json| {
            let theta = json["rope_theta"].clone();
            remove(json, &["rope_theta", "torch_dtype"]);
            json["rope_parameters"] = json!({"rope_theta": theta, "rope_type": "default"});
            json["dtype"] = "float16".into();
        }),
        // A file of another program.
        Folder::new().with_bytes("._config.json", &[0, 5, 22, 7]),
    ] {
        assert_eq!(folder.answer().await, ANSWER);
    }
}

/// The tokenizer adds a first token to every text. It is not added again if the template has written it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_token_from_the_template_is_not_added_again() {
    let folder = |post_processor: bool| {
        let folder = Folder::new().with(TOKENIZER_CONFIG, |json| {
            json["bos_token"] = "<|system|>".into();
            json["chat_template"] = format!("{{{{ bos_token }}}}{TEMPLATE}").into();
        });
        if !post_processor {
            return folder;
        }
        folder.with(TOKENIZER, |json| {
            json["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<|system|>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {
                    "<|system|>": {"id": "<|system|>", "ids": [3], "tokens": ["<|system|>"]},
                },
            });
        })
    };
    let mut prompts = Vec::new();
    for post_processor in [false, true] {
        let engine = engine(&options(folder(post_processor).0.path())).await;
        let tokens = |prompt: Prompt| {
            let request = Request::new(prompt).max_tokens(1);
            async { engine.answer(request).await.unwrap().usage.prompt_tokens }
        };
        let chat = tokens(Prompt::Chat(vec![Message::user(QUESTION)])).await;
        prompts.push((chat, tokens(Prompt::Text(QUESTION.into())).await));
    }
    assert_eq!(prompts[0].0, prompts[1].0, "a conversation");
    assert_eq!(prompts[0].1 + 1, prompts[1].1, "a text");
}

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
async fn generation_config_sets_the_sampling_unless_disabled() {
    let folder = Folder::new().with(GENERATION_CONFIG, |json| {
        json["temperature"] = json!(0.6);
        json["top_k"] = json!(20);
    });
    let auto = options(folder.0.path());
    let defaults = engine(&auto).await.sampling_defaults().clone();
    assert_eq!((defaults.temperature, defaults.top_k), (Some(0.6), Some(20)));
    let none = auto.clone().generation_config(false);
    assert_eq!(*engine(&none).await.sampling_defaults(), colm::SamplingDefaults::default());
}

/// RoPE tables cover the sequences that the KV cache can hold, not the whole `max_position_embeddings`.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_context_does_not_allocate_memory() {
    let folder = Folder::new().with("config.json", |json| {
        json["max_position_embeddings"] = json!(100_000_000);
    });
    assert_eq!(folder.answer().await, ANSWER);
    let absurd = Folder::new().with("config.json", |json| {
        json["max_position_embeddings"] = json!(1_000_000_000_000u64);
    });
    absurd.refused(&["config.json", "max_position_embeddings"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kv_cache_larger_than_memory_fails() {
    let options = options(Path::new(&shipped(MODEL))).kv_cache_mib(1 << 30);
    let error = start_error(&options).await;
    assert!(error.contains("`kv_cache_mib`") && error.contains("MiB are available"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsupported_quantization_fails() {
    let fp8: Quantization = "fp8".parse().unwrap();
    let options = options(Path::new(&shipped(MODEL))).quantization(fp8);
    let error = start_error(&options).await;
    assert!(error.contains("`quantization` fp8") && error.contains("f32"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unquantized_weights_are_not_read_as_quantized() {
    let with = |value: Value| {
        Folder::new().with("config.json", |json| json["quantization_config"] = value)
    };
    assert_eq!(with(Value::Null).answer().await, ANSWER);
    for quantization in [
        json!({"quant_method": "fp8"}),
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
        json!({"quant_method": "new"}),
        json!(5),
    ] {
        with(quantization).refused(&["config.json", "quantization_config"]).await;
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
