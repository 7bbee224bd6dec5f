//! Parsers for the values of flags. Their errors say what is expected; clap adds the flag and the value.

use std::time::Duration;

/// The largest count.
const MOST: usize = u32::MAX as usize;

/// Parses a count.
pub fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|&count| count <= MOST);
    count.ok_or_else(|| format!("expected a whole number from 0 to {MOST}"))
}

/// Parses a count of at least 1.
pub fn at_least_1(text: &str) -> Result<usize, String> {
    let count = count(text).ok().filter(|&count| count > 0);
    count.ok_or_else(|| format!("expected a whole number from 1 to {MOST}"))
}

/// Parses a port; 0 selects a free one.
pub fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("expected a port from 0 to {}", u16::MAX))
}

/// Parses a number of seconds, such as `30` or `0.5`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "expected a number of seconds, such as 30 or 0.5".into())
}

/// Parses a number of seconds above 0.
pub fn positive_seconds(text: &str) -> Result<Duration, String> {
    let duration = seconds(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "expected a number of seconds above 0, such as 30 or 0.5".into())
}

/// Parses a number of gigabytes, such as `100` or `0.5`, as bytes.
pub fn gigabytes(text: &str) -> Result<u64, String> {
    let bytes = text.parse::<f64>().ok().map(|gigabytes| gigabytes * 1e9);
    let bytes = bytes.filter(|bytes| (1.0..=1e18).contains(bytes));
    bytes
        .map(|bytes| bytes as u64)
        .ok_or_else(|| "expected a number of GB, such as 100 or 0.5".into())
}

/// Parses a sampling temperature.
pub fn temperature(text: &str) -> Result<f64, String> {
    let temperature = text.parse().ok().filter(|number| (0. ..f64::INFINITY).contains(number));
    temperature.ok_or_else(|| "expected a number of at least 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ports_are_whole_numbers_in_a_range() {
        assert_eq!((count("0"), at_least_1("7")), (Ok(0), Ok(7)));
        for refused in ["-1", "x", "", "1.5", "4294967296", "99999999999999999999"] {
            let error = count(refused).unwrap_err();
            assert_eq!(error, "expected a whole number from 0 to 4294967295", "{refused}");
        }
        assert_eq!(at_least_1("0").unwrap_err(), "expected a whole number from 1 to 4294967295");
        assert_eq!((port("0"), port("65535")), (Ok(0), Ok(65535)));
        for refused in ["65536", "-1", "http"] {
            assert_eq!(port(refused).unwrap_err(), "expected a port from 0 to 65535", "{refused}");
        }
    }

    #[test]
    fn times_may_have_fractions() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(positive_seconds("2"), Ok(Duration::from_secs(2)));
        for refused in ["0", "-3", "NaN", "1e-20", "inf", "soon"] {
            let error = positive_seconds(refused).unwrap_err();
            assert!(error.contains("above 0"), "{refused}: {error}");
        }
    }

    #[test]
    fn a_temperature_is_a_number_of_at_least_0() {
        assert_eq!(temperature("0.5"), Ok(0.5));
        for refused in ["-1", "NaN", "inf", "warm", ""] {
            assert!(temperature(refused).is_err(), "{refused}");
        }
    }
}
