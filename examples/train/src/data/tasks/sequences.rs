//! Weekdays, months and letters: the entry some steps after or before another.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::phrases::phrase;
use super::Question;
use crate::data::words::{DAYS, MONTHS};

pub(super) fn weekday(rng: &mut ChaCha8Rng) -> Question {
    let (day, steps): (usize, usize) = (rng.random_range(0..7), rng.random_range(1..=30));
    let phrasings = [
        "What day comes {n} days after {day}?",
        "Which day is {n} days after {day}?",
        "Today is {day}. What day is it in {n} days?",
    ];
    let values = [("day", DAYS[day]), ("n", &*steps.to_string())];
    (phrase(rng, &phrasings, &values), DAYS[(day + steps) % 7].to_string())
}

pub(super) fn month(rng: &mut ChaCha8Rng) -> Question {
    let (month, steps): (usize, usize) = (rng.random_range(0..12), rng.random_range(1..=12));
    let (direction, at) = after_or_before(rng, (month + steps) % 12, (month + 12 - steps) % 12);
    let phrasings = [
        "What month comes {n} months {direction} {month}?",
        "Which month is {n} months {direction} {month}?",
        "Name the month {n} months {direction} {month}.",
    ];
    let values = [("month", MONTHS[month]), ("n", &*steps.to_string()), ("direction", direction)];
    (phrase(rng, &phrasings, &values), MONTHS[at].to_string())
}

pub(super) fn letter(rng: &mut ChaCha8Rng) -> Question {
    let steps: u8 = rng.random_range(1..=6);
    let low = b'A' + rng.random_range(0..26 - steps);
    let (direction, (from, to)) = after_or_before(rng, (low, low + steps), (low + steps, low));
    let phrasings = [
        "Which letter comes {n} {direction} {letter}?",
        "What is {n} letters {direction} {letter}?",
        "Name the letter {n} places {direction} {letter}.",
    ];
    let (steps, from) = (steps.to_string(), char::from(from).to_string());
    let values = [("n", &*steps), ("direction", direction), ("letter", &*from)];
    (phrase(rng, &phrasings, &values), char::from(to).to_string())
}

/// `("after", after)` or `("before", before)`, at random.
fn after_or_before<T>(rng: &mut ChaCha8Rng, after: T, before: T) -> (&'static str, T) {
    if rng.random_bool(0.5) {
        ("after", after)
    } else {
        ("before", before)
    }
}
