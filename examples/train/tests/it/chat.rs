//! Tokenizer round trips, and the chat template against the encoding for training.

use colm_train::data::{DataSplit, Generator, Mix, Task};
use colm_train::tokenizer::{ChatTokenizer, CHAT_TEMPLATE};
use minijinja::{context, Environment, Value};

#[test]
fn decoding_gives_the_encoded_text() {
    let chat = ChatTokenizer::train(1, 500, 320, Mix::of_vocabulary()).unwrap();
    for text in ["What is 27 + 58?", " two  spaces\nand a line", "Zoë → 7½ 日本", "x2y33"] {
        assert_eq!(chat.text(&chat.ids(text).unwrap()).unwrap(), text);
    }
    // Every digit is a token of its own.
    assert_eq!(chat.ids("1234").unwrap().len(), 4);
}

#[test]
fn a_saved_tokenizer_reads_back_the_same() {
    let chat = ChatTokenizer::train(1, 500, 320, Mix::of_vocabulary()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    chat.save(dir.path(), 64).unwrap();
    let read = ChatTokenizer::load(dir.path()).unwrap();
    let mut generator = Generator::new(3, 0, DataSplit::Train, Mix::of(Task::SCORED));
    for _ in 0..100 {
        let conversation = generator.conversation();
        assert_eq!(chat.encode(&conversation).unwrap(), read.encode(&conversation).unwrap());
    }
}

/// As with --force. Readers would prefer these files to `tokenizer_config.json`.
#[test]
fn a_saved_tokenizer_replaces_the_templates_and_special_tokens_of_another() {
    let chat = ChatTokenizer::train(1, 10, 300, Mix::of_vocabulary()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let stale = [
        "chat_template.jinja",
        "chat_template.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "additional_chat_templates/tool_use.jinja",
    ];
    let of_user = ["chat_template.txt", "notes.jinja", "additional_chat_templates/notes.txt"];
    let write = |name: &str| std::fs::write(path(name), "old").unwrap();
    std::fs::create_dir(path("additional_chat_templates")).unwrap();
    stale.iter().chain(&of_user).for_each(|name| write(name));
    chat.save(dir.path(), 64).unwrap();
    for name in stale {
        assert!(!path(name).exists(), "{name} is left");
    }
    for name in of_user {
        assert!(path(name).exists(), "{name} is removed");
    }
    // A folder of templates alone goes with them.
    std::fs::remove_file(path("additional_chat_templates/notes.txt")).unwrap();
    write("additional_chat_templates/tool_use.jinja");
    chat.save(dir.path(), 64).unwrap();
    assert!(!path("additional_chat_templates").exists());
}

/// Those of another model.
#[test]
fn templates_behind_a_link_stay() {
    let chat = ChatTokenizer::train(1, 10, 300, Mix::of_vocabulary()).unwrap();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let template = other.path().join("tool_use.jinja");
    std::fs::write(&template, "of another model").unwrap();
    let link = dir.path().join("additional_chat_templates");
    std::os::unix::fs::symlink(other.path(), &link).unwrap();
    chat.save(dir.path(), 64).unwrap();
    assert!(!link.is_symlink() && template.exists());
}

#[test]
fn the_template_renders_the_format_of_training() {
    let chat = ChatTokenizer::train(1, 500, 320, Mix::of_vocabulary()).unwrap();
    let mut environment = Environment::new();
    environment.add_template("chat", CHAT_TEMPLATE).unwrap();
    let template = environment.get_template("chat").unwrap();
    let mut generator = Generator::new(3, 0, DataSplit::Train, Mix::of(Task::SCORED));
    for _ in 0..100 {
        let conversation = generator.conversation();
        let message = |role: &str, content: &str| context! { role, content };
        let mut messages: Vec<Value> = vec![];
        messages.extend(conversation.system.map(|content| message("system", content)));
        for turn in &conversation.turns {
            messages.push(message("user", &turn.prompt));
            messages.push(message("assistant", &turn.answer));
        }
        let render = |messages: &[Value], add_generation_prompt: bool| {
            template.render(context! { messages, add_generation_prompt }).unwrap()
        };
        let expected = chat.encode(&conversation).unwrap().ids;
        assert_eq!(chat.ids(&render(&messages, false)).unwrap(), expected);

        let asked = [message("user", &conversation.turns[0].prompt)];
        let prompt = chat.prompt(&conversation.turns[0].prompt).unwrap();
        assert_eq!(chat.ids(&render(&asked, true)).unwrap(), prompt);
        let parts = context! { content => [context! { text => conversation.turns[0].prompt }] };
        let asked = [context! { role => "user", ..parts }];
        assert_eq!(chat.ids(&render(&asked, true)).unwrap(), prompt);
    }
}
