//! Random phrasings, and random entries of lists.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A random phrasing with its `{name}` placeholders filled in.
pub(super) fn phrase(rng: &mut ChaCha8Rng, phrasings: &[&str], values: &[(&str, &str)]) -> String {
    let mut text = one(rng, phrasings).to_string();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

/// A random phrasing with `{a}` and `{b}` filled in.
pub(super) fn two_numbers(rng: &mut ChaCha8Rng, phrasings: &[&str], a: u32, b: u32) -> String {
    phrase(rng, phrasings, &[("a", &a.to_string()), ("b", &b.to_string())])
}

/// A random entry of `of`.
pub(super) fn one<'a>(rng: &mut ChaCha8Rng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

/// `count` distinct entries of `of` in random order.
pub(super) fn some<'a>(rng: &mut ChaCha8Rng, of: &[&'a str], count: usize) -> Vec<&'a str> {
    let mut chosen: Vec<&str> = of.choose_multiple(rng, count).copied().collect();
    chosen.shuffle(rng);
    chosen
}

/// `count` distinct numbers from 0 to 99.
pub(super) fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<u32> {
    rand::seq::index::sample(rng, 100, count).iter().map(|number| number as u32).collect()
}

/// The items with a space between them.
pub(super) fn spaced<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}
