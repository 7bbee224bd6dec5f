//! Choosing k per request: the model id `NAME@k` names the model `NAME` at k chains.

use thiserror::Error;

/// Why a chain count is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{asked} is not a chain count of this model: expected a whole number from 1 to {loaded}")]
pub struct ChainsRefused {
    /// What was asked for, as written.
    pub asked: String,
    /// The number of chains loaded.
    pub loaded: usize,
}

/// `NAME@k`, the model id for `name` at `k` chains.
pub fn model_id_at(name: &str, k: usize) -> String {
    format!("{name}@{k}")
}

/// k as a user wrote it, from 1 to the number of chains loaded.
pub fn parse_chains(asked: &str, loaded: usize) -> Result<usize, ChainsRefused> {
    match asked.parse() {
        Ok(k) if (1..=loaded).contains(&k) => Ok(k),
        _ => Err(ChainsRefused { asked: asked.into(), loaded }),
    }
}

/// The chain count a model id asks for: the number behind the last `@`. None if it names none, and
/// so all loaded chains.
pub fn chains_of(model_id: &str) -> Option<usize> {
    model_id.rsplit_once('@')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_carries_its_chain_count() {
        assert_eq!(chains_of(&model_id_at("org/tiny@home", 3)), Some(3));
        assert_eq!(chains_of("tiny"), None);
        assert_eq!(chains_of("user@host"), None);
    }

    #[test]
    fn what_is_not_a_chain_count_is_refused_with_the_range() {
        assert_eq!(parse_chains("2", 4), Ok(2));
        for asked in ["0", "5", "-1", "1.5", "two", ""] {
            let refused = parse_chains(asked, 4).unwrap_err().to_string();
            assert!(refused.contains("from 1 to 4"), "{refused}");
        }
    }
}
