//! Facts that the prompt states and asks for.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::phrases::{one, some};
use super::Question;
use crate::data::words::{ANIMALS, CITIES, COLORS, DRINKS, JOBS, NAMES};

/// Facts that a user states: statement, question and possible values.
pub(super) const FACTS: &[(&str, &str, &[&str])] = &[
    ("My name is {}.", "What is my name?", NAMES),
    ("I live in {}.", "Where do I live?", CITIES),
    ("I was born in {}.", "Where was I born?", CITIES),
    ("My favourite colour is {}.", "What is my favourite colour?", COLORS),
    ("My pet is a {}.", "What is my pet?", ANIMALS),
    ("I work as a {}.", "What is my job?", JOBS),
    ("I like to drink {}.", "What do I like to drink?", DRINKS),
    ("My friend is {}.", "Who is my friend?", NAMES),
];

pub(super) fn recall(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(2..=4);
    let told = rand::seq::index::sample(rng, FACTS.len(), count).into_vec();
    let values: Vec<&str> = told.iter().map(|&fact| one(rng, FACTS[fact].2)).collect();
    let mut prompt = String::new();
    for (&fact, value) in told.iter().zip(&values) {
        prompt += &FACTS[fact].0.replace("{}", value);
        prompt.push(' ');
    }
    let asked = rng.random_range(0..count);
    (prompt + FACTS[told[asked]].1, values[asked].to_string())
}

pub(super) fn lookup(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(2..=4);
    let (who, what) = (some(rng, NAMES, count), some(rng, DRINKS, count));
    let told: Vec<String> =
        who.iter().zip(&what).map(|(who, what)| format!("{who} likes {what}")).collect();
    let asked = rng.random_range(0..count);
    let (question, answer) = if rng.random_bool(0.5) {
        (format!("Who likes {}?", what[asked]), who[asked])
    } else {
        (format!("What does {} like?", who[asked]), what[asked])
    };
    (format!("{}. {question}", told.join(", ")), answer.to_string())
}
