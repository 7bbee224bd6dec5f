//! Elastic inference: the more requests are active, the fewer chains answer a request that does not name a chain
//! count.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::ChainCount;

/// Load thresholds: `8:2,16:1` means 2 chains from 8 active requests, 1 chain from 16. Below the first threshold, and
/// by default, all loaded chains answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elastic {
    /// (active requests, k): requests increase, k decreases.
    thresholds: Vec<(usize, usize)>,
}

/// Why load thresholds are invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElasticError {
    /// A threshold is not two positive integers.
    #[error("{0:?} is not a threshold: expected REQUESTS:K, two positive integers, such as 8:2")]
    NotAThreshold(String),
    /// The thresholds are not in order.
    #[error("{later} follows {earlier}: expected more requests and fewer chains")]
    NotInOrder {
        /// A threshold.
        earlier: String,
        /// The next threshold.
        later: String,
    },
    /// A threshold asks for more chains than are loaded.
    #[error("a threshold asks for {requested} chains, but {loaded} are loaded: expected at most {loaded}")]
    NotLoaded {
        /// The largest chain count of all thresholds.
        requested: usize,
        /// The number of chains loaded.
        loaded: ChainCount,
    },
}

impl FromStr for Elastic {
    type Err = ElasticError;

    fn from_str(text: &str) -> Result<Self, ElasticError> {
        let thresholds = text.split(',').map(parse_threshold).collect::<Result<Vec<_>, _>>()?;
        for pair in thresholds.windows(2) {
            if pair[0].0 >= pair[1].0 || pair[0].1 <= pair[1].1 {
                let (earlier, later) = (format_threshold(&pair[0]), format_threshold(&pair[1]));
                return Err(ElasticError::NotInOrder { earlier, later });
            }
        }
        Ok(Self { thresholds })
    }
}

fn format_threshold((requests, k): &(usize, usize)) -> String {
    format!("{requests}:{k}")
}

impl fmt::Display for Elastic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.thresholds.iter().map(format_threshold).collect::<Vec<_>>().join(","))
    }
}

fn parse_threshold(text: &str) -> Result<(usize, usize), ElasticError> {
    let number = |text: &str| text.trim().parse().ok().filter(|&number: &usize| number > 0);
    let numbers = text.split_once(':').and_then(|(requests, k)| number(requests).zip(number(k)));
    numbers.ok_or_else(|| ElasticError::NotAThreshold(text.into()))
}

impl Elastic {
    /// Fails if a threshold asks for more than the `loaded` chains.
    pub(super) fn check(&self, loaded: ChainCount) -> Result<(), ElasticError> {
        match self.thresholds.first() {
            Some(&(_, requested)) if requested > loaded.get() => {
                Err(ElasticError::NotLoaded { requested, loaded })
            }
            _ => Ok(()),
        }
    }

    /// The chain count at `active` requests, of `loaded` chains.
    pub(super) fn chains(&self, active: usize, loaded: ChainCount) -> ChainCount {
        let reached = self.thresholds.iter().take_while(|(requests, _)| *requests <= active);
        reached.last().and_then(|(_, k)| ChainCount::new(*k, loaded.get()).ok()).unwrap_or(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(k: usize) -> ChainCount {
        ChainCount::new(k, 4).unwrap()
    }

    #[test]
    fn more_requests_get_fewer_chains() {
        let elastic: Elastic = "8:3, 16:1".parse().unwrap();
        let chains = [1, 7, 8, 15, 16, 99].map(|requests| elastic.chains(requests, k(4)));
        assert_eq!(chains, [4, 4, 3, 3, 1, 1].map(k));
        assert_eq!(Elastic::default().chains(99, k(4)), k(4));
        assert_eq!(elastic.to_string(), "8:3,16:1");
        assert_eq!(elastic.check(k(3)), Ok(()));
        let error = elastic.check(k(2)).unwrap_err().to_string();
        assert!(error.contains("3 chains, but 2 are loaded: expected at most 2"), "{error}");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "8", "8:", ":2", "8:0", "0:2", "8:2,", "a:b", "8:2:1", "-8:2"] {
            let refused = text.parse::<Elastic>().unwrap_err();
            assert!(matches!(refused, ElasticError::NotAThreshold(_)), "{text}: {refused}");
        }
        for text in ["8:2,8:1", "16:2,8:1", "8:2,16:2", "8:1,16:2"] {
            let refused = text.parse::<Elastic>().unwrap_err().to_string();
            assert!(refused.contains("more requests and fewer chains"), "{text}: {refused}");
        }
    }
}
