//! Lists of words that are copied, reversed or searched.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::phrases::{one, phrase, some, spaced};
use super::Question;
use crate::data::words::{ORDINALS, WORDS};

pub(super) fn copy(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(2..=6);
    let list = spaced(&some(rng, WORDS, count));
    (phrase(rng, &["Repeat: {list}", "Say: {list}", "Copy: {list}"], &[("list", &list)]), list)
}

pub(super) fn reverse(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(3..=6);
    let mut list = some(rng, WORDS, count);
    let phrasings = ["Reverse: {list}", "Say backwards: {list}"];
    let prompt = phrase(rng, &phrasings, &[("list", &spaced(&list))]);
    list.reverse();
    (prompt, spaced(&list))
}

pub(super) fn pick(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(3..=6);
    let list = some(rng, WORDS, count);
    let (place, at) = if rng.random_ratio(1, 5) {
        ("last", count - 1)
    } else {
        let at = rng.random_range(0..count);
        (ORDINALS[at], at)
    };
    let phrasings = ["What is the {place} word of: {list}", "Name the {place} word: {list}"];
    let values = [("place", place), ("list", &*spaced(&list))];
    (phrase(rng, &phrasings, &values), list[at].to_string())
}

pub(super) fn count(rng: &mut ChaCha8Rng) -> Question {
    let words = some(rng, WORDS, 3);
    let length = rng.random_range(3..=8);
    let list: Vec<&str> = (0..length).map(|_| one(rng, &words)).collect();
    let asked = words[0];
    let phrasings = ["How many times does {word} appear in: {list}", "Count {word} in: {list}"];
    let prompt = phrase(rng, &phrasings, &[("word", asked), ("list", &spaced(&list))]);
    (prompt, list.iter().filter(|&&word| word == asked).count().to_string())
}
