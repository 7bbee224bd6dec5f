//! Model folders are read, and conversations and texts tokenized, as in transformers.

use crate::fixtures::{conversations, fixture, fixture_path, text, time};
use colm_prompt::{ModelFacts, PromptFolder, TokenText};
use serde_json::{Map, Value};

/// transformers 5 rebuilds the tokenizers of some classes from the vocabulary and ignores the rest of tokenizer.json.
/// This crate uses tokenizer.json, as transformers 4 and the tokenizers library do.
const REBUILT: &str = "llama_class";

/// A class with special tokens that no file names.
const OWN_TOKENS: &str = "qwen2_class";

fn tokenizers(tokens: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let tokenizers = tokens["tokenizers"].as_object().unwrap();
    tokenizers.iter().filter(|(name, _)| *name != REBUILT)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn folder(name: &str, expected: &Value) -> PromptFolder {
    let vocab_size = expected["size"].as_u64().unwrap() as usize;
    let facts = ModelFacts { vocab_size, longest: 4096, config: &Map::new() };
    let folder = PromptFolder::read(&fixture_path("tokenizers").join(name), &facts);
    folder.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn encode(folder: &PromptFolder, text: &str, with_special: bool) -> Vec<u32> {
    folder.tokenizer.encode_fast(text, with_special).unwrap().get_ids().to_vec()
}

#[test]
fn conversations_have_the_tokens_of_transformers() {
    let tokens: Value = fixture("tokens.json");
    let now = time(&tokens["now"]);
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, expected) in tokenizers(&tokens) {
        let folder = folder(name, expected);
        let template = folder.chat_template.as_ref().unwrap();
        for (conversation_name, conversation) in conversations() {
            let Some(expected) = expected["conversations"].get(&conversation_name) else {
                continue;
            };
            compared += 1;
            let rendered = template.render_at(&conversation, now);
            let right = match (&rendered, expected.get("ids")) {
                (Ok(found), Some(expected)) => encode(&folder, found, false) == ids(expected),
                (Err(_), None) => true,
                _ => false,
            };
            if !right {
                wrong.push(format!(
                    "{name} x {conversation_name}: {rendered:?}\n  expected {expected}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 400, "{compared} conversations are compared");
}

#[test]
fn texts_have_the_tokens_of_transformers() {
    let tokens: Value = fixture("tokens.json");
    let texts = tokens["texts"].as_array().unwrap();
    for (name, expected) in tokenizers(&tokens) {
        let folder = folder(name, expected);
        for (input, expected) in texts.iter().zip(expected["texts"].as_array().unwrap()) {
            let input = text(input);
            assert_eq!(encode(&folder, &input, true), ids(&expected["ids"]), "{name}: {input:?}");
            let without = ids(&expected["ids_without_special"]);
            assert_eq!(encode(&folder, &input, false), without, "{name}: {input:?}");
        }
    }
}

#[test]
fn special_tokens_are_those_of_transformers() {
    let tokens: Value = fixture("tokens.json");
    for (name, expected) in tokenizers(&tokens) {
        let folder = folder(name, expected);
        let found = serde_json::to_value(folder.special_tokens.texts()).unwrap();
        if name != OWN_TOKENS {
            assert_eq!(found, expected["special_tokens_map"], "{name}");
        }
        for token in expected["added_tokens"].as_array().unwrap() {
            let id = token["id"].as_u64().unwrap() as usize;
            let content = text(&token["content"]);
            let expected = if token["special"] == true {
                TokenText::Special(content)
            } else {
                TokenText::Bytes(content.into_bytes())
            };
            assert_eq!(folder.token_texts[id], expected, "{name}: token {id}");
        }
        let eos = &expected["special_tokens"]["eos"]["id"];
        let eos: Vec<u32> = eos.as_u64().map(|id| id as u32).into_iter().collect();
        assert_eq!(folder.eos_tokens, eos, "{name}");
    }
}

/// The text of `ids` in an answer: the bytes of the tokens.
fn shown(folder: &PromptFolder, ids: &[u32]) -> String {
    let bytes = ids.iter().flat_map(|&id| match &folder.token_texts[id as usize] {
        TokenText::Bytes(bytes) => bytes.as_slice(),
        TokenText::Special(_) | TokenText::None => &[],
    });
    String::from_utf8_lossy(&bytes.copied().collect::<Vec<u8>>()).into_owned()
}

#[test]
fn tokens_have_the_text_of_transformers() {
    let tokens: Value = fixture("tokens.json");
    for (name, expected) in tokenizers(&tokens) {
        let folder = folder(name, expected);
        for expected in expected["decoded"].as_array().unwrap() {
            let (ids, expected) = (ids(&expected["ids"]), text(&expected["text"]));
            let found = shown(&folder, &ids);
            if expected.contains(char::REPLACEMENT_CHARACTER) {
                // The library decodes the text of an added token as if it were byte-level.
                continue;
            }
            // A decoder of whole texts drops the space before the first word, which an answer after a prompt
            // keeps. And it keeps the mark `##` of a continued word at the beginning.
            let expected = expected.trim_start_matches("##").trim_start_matches(' ');
            assert_eq!(found.trim_start_matches(' '), expected, "{name}: {ids:?}");
        }
    }
}
