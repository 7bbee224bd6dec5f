//! Small talk and system messages, from fixed lists.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::facts::FACTS;
use super::phrases::one;
use super::Task;
use crate::data::Dialogue;

/// Prompts, and the answer to each of them.
const SMALL_TALK: &[(&[&str], &str)] = &[
    (&["Hello!", "Hi!", "Hello", "Hi", "Good morning!", "Hey!"], "Hello! How can I help you?"),
    (
        &["Who are you?", "What are you?", "What is your name?"],
        "I am a tiny chain of language models.",
    ),
    (
        &["What can you do?", "Help", "What can I ask you?"],
        "I can add, compare, sort, repeat, count and remember what you tell me.",
    ),
    (&["How are you?", "How do you do?"], "I am fine, thank you."),
    (&["Thanks!", "Thank you!", "Thank you", "Thanks"], "You are welcome."),
    (&["Goodbye!", "Bye!", "Goodbye", "Bye"], "Goodbye!"),
];

/// One or two turns of small talk; two turns state a fact and ask for it.
pub(in crate::data) fn small_talk(rng: &mut ChaCha8Rng) -> Vec<Dialogue> {
    let turn = |prompt: String, answer: String| Dialogue { prompt, answer, task: Task::SmallTalk };
    if rng.random_ratio(1, 3) {
        let (statement, question, values) = FACTS[rng.random_range(0..FACTS.len())];
        let value = one(rng, values);
        return vec![
            turn(statement.replace("{}", value), "I will remember that.".into()),
            turn(question.into(), value.into()),
        ];
    }
    let (prompts, answer) = SMALL_TALK[rng.random_range(0..SMALL_TALK.len())];
    vec![turn(one(rng, prompts).into(), answer.into())]
}

/// A system message, which the model learns to ignore.
pub(in crate::data) fn system_message(rng: &mut ChaCha8Rng) -> &'static str {
    one(
        rng,
        &[
            "You are a helpful assistant.",
            "Answer briefly.",
            "You are a careful assistant. Answer with the result only.",
        ],
    )
}
