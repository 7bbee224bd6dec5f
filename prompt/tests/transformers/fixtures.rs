//! The fixtures, which `fixtures/make_fixtures.py` generates with transformers.

use std::fs;
use std::path::PathBuf;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone};
use colm_prompt::Conversation;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub fn fixture_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn fixture_text(name: &str) -> String {
    let path = fixture_path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn fixture<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fixture_text(name)).unwrap()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_string()
}

/// The current time that the templates saw.
pub fn time(value: &Value) -> DateTime<Local> {
    let time: NaiveDateTime = value.as_str().unwrap().parse().unwrap();
    Local.from_local_datetime(&time).earliest().unwrap()
}

/// Named conversations.
pub fn conversations() -> Vec<(String, Conversation)> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
        messages: Vec<Map<String, Value>>,
        tools: Option<Vec<Value>>,
        #[serde(default)]
        variables: Map<String, Value>,
        add_generation_prompt: bool,
    }
    let named: Vec<Named> = fixture("conversations.json");
    let conversation = |named: Named| {
        let Named { name, messages, tools, variables, add_generation_prompt } = named;
        (name, Conversation { messages, tools, variables, add_generation_prompt })
    };
    named.into_iter().map(conversation).collect()
}
