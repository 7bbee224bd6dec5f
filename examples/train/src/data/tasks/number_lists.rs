//! Numbers that are continued, compared or sorted.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::phrases::{numbers, phrase, spaced, two_numbers};
use super::Question;

pub(super) fn continue_sequence(rng: &mut ChaCha8Rng) -> Question {
    let (start, step): (u32, u32) = (rng.random_range(0..50), rng.random_range(1..=12));
    let told: Vec<u32> = (0..4).map(|term| start + term * step).collect();
    let phrasings = ["Continue: {list}", "What comes next: {list}", "What number follows {list}?"];
    (phrase(rng, &phrasings, &[("list", &spaced(&told))]), (start + 4 * step).to_string())
}

pub(super) fn compare(rng: &mut ChaCha8Rng) -> Question {
    let (a, b): (u32, u32) = loop {
        let (a, b) = (rng.random_range(0..1000), rng.random_range(0..1000));
        if a != b {
            break (a, b);
        }
    };
    if rng.random_bool(0.5) {
        let phrasings = ["Which is larger, {a} or {b}?", "What is more, {a} or {b}?"];
        (two_numbers(rng, &phrasings, a, b), a.max(b).to_string())
    } else {
        let phrasings = ["Which is smaller, {a} or {b}?", "What is less, {a} or {b}?"];
        (two_numbers(rng, &phrasings, a, b), a.min(b).to_string())
    }
}

pub(super) fn extreme(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(3..=6);
    let list = numbers(rng, count);
    let text = spaced(&list);
    let (phrasings, answer) = if rng.random_bool(0.5) {
        (["What is the largest of {list}?", "Find the largest number: {list}"], list.iter().max())
    } else {
        (["What is the smallest of {list}?", "Find the smallest number: {list}"], list.iter().min())
    };
    let answer = answer.map(u32::to_string).unwrap_or_default();
    (phrase(rng, &phrasings, &[("list", &text)]), answer)
}

pub(super) fn sort(rng: &mut ChaCha8Rng) -> Question {
    let count = rng.random_range(3..=5);
    let mut list = numbers(rng, count);
    let text = spaced(&list);
    list.sort_unstable();
    let phrasings: &[&str] = if rng.random_ratio(2, 3) {
        &["Sort {list}.", "Sort these numbers: {list}", "Put in order: {list}"]
    } else {
        list.reverse();
        &["Sort from large to small: {list}", "Sort in descending order: {list}"]
    };
    (phrase(rng, phrasings, &[("list", &text)]), spaced(&list))
}
