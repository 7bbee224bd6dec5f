//! Unusual model folders load as in transformers, or fail with an error that names file and field.

mod engine_options;
pub mod model_folder;
mod refused;

use colm::{Message, Prompt, Request};
use colm_testing::engine::{engine, options};
use serde_json::{json, Value};

use model_folder::{
    remove, Folder, ANSWER, GENERATION_CONFIG, QUESTION, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG,
};

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
async fn generation_config_sets_the_sampling_unless_disabled() {
    let folder = Folder::new().with(GENERATION_CONFIG, |json| {
        json["do_sample"] = json!(true);
        json["temperature"] = json!(0.6);
        json["top_k"] = json!(20);
    });
    let auto = options(folder.0.path());
    let defaults = engine(&auto).await.sampling_defaults().clone();
    assert_eq!((defaults.temperature, defaults.top_k), (Some(0.6), Some(20)));
    let none = auto.clone().generation_config(false);
    assert_eq!(*engine(&none).await.sampling_defaults(), colm::SamplingDefaults::default());
    let greedy = Folder::new().with(GENERATION_CONFIG, |json| {
        json["do_sample"] = json!(false);
        json["temperature"] = json!(0.6);
    });
    let defaults = engine(&options(greedy.0.path())).await.sampling_defaults().clone();
    assert_eq!(defaults.temperature, Some(0.0));
}
