//! Calculations with two numbers.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::phrases::{one, phrase, two_numbers};
use super::Question;
use crate::data::words::{NAMES, THINGS};

pub(super) fn add(rng: &mut ChaCha8Rng) -> Question {
    let (a, b) = (rng.random_range(0..100), rng.random_range(0..100));
    let phrasings =
        ["What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "Calculate {a} plus {b}."];
    (two_numbers(rng, &phrasings, a, b), (a + b).to_string())
}

pub(super) fn subtract(rng: &mut ChaCha8Rng) -> Question {
    let a: u32 = rng.random_range(0..100);
    let b = rng.random_range(0..=a);
    let phrasings = [
        "What is {a} - {b}?",
        "{a} - {b} = ?",
        "Subtract {b} from {a}.",
        "Calculate {a} minus {b}.",
    ];
    (two_numbers(rng, &phrasings, a, b), (a - b).to_string())
}

pub(super) fn multiply(rng: &mut ChaCha8Rng) -> Question {
    let (a, b) = (rng.random_range(0..=12), rng.random_range(0..=12));
    let phrasings = [
        "What is {a} * {b}?",
        "{a} * {b} = ?",
        "What is {a} times {b}?",
        "Multiply {a} by {b}.",
        "Calculate {a} times {b}.",
    ];
    (two_numbers(rng, &phrasings, a, b), (a * b).to_string())
}

pub(super) fn divide(rng: &mut ChaCha8Rng) -> Question {
    let (b, quotient) = (rng.random_range(1..=12), rng.random_range(0..=12));
    let phrasings = [
        "What is {a} / {b}?",
        "{a} / {b} = ?",
        "What is {a} divided by {b}?",
        "Divide {a} by {b}.",
        "Calculate {a} divided by {b}.",
    ];
    (two_numbers(rng, &phrasings, b * quotient, b), quotient.to_string())
}

pub(super) fn remainder(rng: &mut ChaCha8Rng) -> Question {
    let (a, b): (u32, u32) = (rng.random_range(10..60), rng.random_range(3..10));
    let phrasings = [
        "What is the remainder of {a} divided by {b}?",
        "What is {a} mod {b}?",
        "{a} mod {b} = ?",
        "Divide {a} by {b}. What is the remainder?",
    ];
    (two_numbers(rng, &phrasings, a, b), (a % b).to_string())
}

pub(super) fn story(rng: &mut ChaCha8Rng) -> Question {
    let gains = rng.random_bool(0.5);
    let had: u32 = rng.random_range(1..50);
    let change = rng.random_range(1..=if gains { 50 } else { had });
    let phrasings: &[&str] = if gains {
        &["{who} has {a} {what} and buys {b} more.", "{who} has {a} {what} and finds {b} more."]
    } else {
        &["{who} has {a} {what} and loses {b}.", "{who} has {a} {what} and sells {b}."]
    };
    let question = " How many {what} does {who} have now?";
    let phrasings: Vec<String> = phrasings.iter().map(|told| format!("{told}{question}")).collect();
    let phrasings: Vec<&str> = phrasings.iter().map(String::as_str).collect();
    let (who, what) = (one(rng, NAMES), one(rng, THINGS));
    let (a, b) = (had.to_string(), change.to_string());
    let values = [("who", who), ("what", what), ("a", &*a), ("b", &*b)];
    let left = if gains { had + change } else { had - change };
    (phrase(rng, &phrasings, &values), left.to_string())
}
