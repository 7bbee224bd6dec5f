//! Numbers on the command line. Each error says what is expected.

use std::ops::RangeInclusive;
use std::str::FromStr;

use colm_checkpoint::convert::NewChain;
use colm_checkpoint::Chains;

/// Parses a chain count, or 0. Whether the model has that many chains is checked later, with a message that says how many
/// it has.
pub fn chain_count(text: &str) -> Result<usize, String> {
    let expected = format!("expected a chain count from 1 to {}", Chains::MAX_COUNT);
    in_range(text, 0..=Chains::MAX_COUNT).ok_or(expected)
}

/// Parses the relative size of a chain.
pub fn relative_size(text: &str) -> Result<usize, String> {
    let most = NewChain::MAX_WIDTH;
    let expected = format!("expected a list of whole numbers from 1 to {most}, such as 32,8");
    in_range(text, 1..=most).ok_or(expected)
}

/// Parses the seed of random numbers.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// Parses the largest magnitude of values that are dropped.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let tolerance = text.parse().ok().filter(|tolerance| *tolerance >= 0.);
    tolerance.ok_or_else(|| "expected a number of at least 0, such as 1e-8".into())
}

/// The number in `text` if it is in `range`.
pub fn in_range<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}
