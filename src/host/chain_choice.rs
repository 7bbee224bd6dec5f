//! Choosing k per request: the model id `NAME@k` is the model `NAME` at k chains.

use colm_checkpoint::ChainCount;
use thiserror::Error;

/// A text that is not a number of chains of this model.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text} is not a chain count of this model: expected a whole number from 1 to {loaded}")]
pub struct ParseChainCountError {
    /// The text.
    pub text: String,
    /// The number of chains loaded.
    pub loaded: ChainCount,
}

/// `NAME@k`, the model id of `name` at `k` chains.
pub fn model_id_at(name: &str, k: ChainCount) -> String {
    format!("{name}@{k}")
}

/// Parses k as a user wrote it: a whole number from 1 to `loaded`, the number of chains loaded.
///
/// # Errors
/// If `text` is anything else.
pub fn parse_chain_count(
    text: &str,
    loaded: ChainCount,
) -> Result<ChainCount, ParseChainCountError> {
    let k = text.parse().ok().and_then(|k| ChainCount::new(k, loaded.get()).ok());
    // `02` and `+2` are not model ids.
    let k = k.filter(|k| k.to_string() == text);
    k.ok_or_else(|| ParseChainCountError { text: text.into(), loaded })
}

/// The chain count that the model id `id` asks for, if the model is served as `name`: k of `NAME@k`, and all loaded
/// chains for any other id.
///
/// # Errors
/// If `id` is `NAME@` and not followed by a number of chains that are loaded.
pub fn chain_count_of(
    id: &str,
    name: &str,
    loaded: ChainCount,
) -> Result<ChainCount, ParseChainCountError> {
    match id.strip_prefix(name).and_then(|rest| rest.strip_prefix('@')) {
        Some(k) => parse_chain_count(k, loaded),
        None => Ok(loaded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(k: usize) -> ChainCount {
        ChainCount::new(k, 4).unwrap()
    }

    #[test]
    fn an_alias_carries_its_chain_count() {
        let name = "org/tiny@3";
        let of = |id: &str| chain_count_of(id, name, k(4));
        assert_eq!(of(&model_id_at(name, k(2))), Ok(k(2)));
        assert_eq!(of(name), Ok(k(4)));
        assert_eq!(of("other@3"), Ok(k(4)));
        assert!(of("org/tiny@3@5").is_err());
    }

    #[test]
    fn other_texts_are_refused_with_the_range() {
        assert_eq!(parse_chain_count("2", k(4)), Ok(k(2)));
        for text in ["0", "5", "-1", "1.5", "two", ""] {
            let error = parse_chain_count(text, k(4)).unwrap_err().to_string();
            assert!(error.contains("from 1 to 4"), "{error}");
        }
    }
}
