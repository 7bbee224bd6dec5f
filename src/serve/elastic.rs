//! Elastic inference by load: the more requests are in progress, the fewer chains answer those that leave
//! their number to the server.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use thiserror::Error;

/// From how many requests in progress on how many chains answer, as `8:2,16:1` says it: 2 chains from 8
/// requests on, 1 from 16 on. Below the first, and by default, all loaded chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elastic {
    /// (requests in progress, k): the first grow, the second shrink.
    steps: Vec<(usize, usize)>,
}

/// Why chain counts by load are refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ElasticRefused {
    /// Not two whole numbers from 1 on.
    #[error("{0:?} is not REQUESTS:K, two whole numbers from 1 on, such as 8:2")]
    NotAStep(String),
    /// More requests do not get fewer chains.
    #[error("{later} after {earlier}: expected more requests and fewer chains")]
    NotInOrder {
        /// A step.
        earlier: String,
        /// The next.
        later: String,
    },
    /// More chains than are loaded.
    #[error(
        "--elastic asks for {asked} chains, where {loaded} are loaded: expected at most {loaded}"
    )]
    NotLoaded {
        /// The most chains of any step.
        asked: usize,
        /// The number of chains loaded.
        loaded: usize,
    },
}

impl FromStr for Elastic {
    type Err = ElasticRefused;

    fn from_str(text: &str) -> Result<Self, ElasticRefused> {
        let steps = text.split(',').map(step).collect::<Result<Vec<_>, _>>()?;
        let written = |(requests, k): (usize, usize)| format!("{requests}:{k}");
        for pair in steps.windows(2) {
            if pair[0].0 >= pair[1].0 || pair[0].1 <= pair[1].1 {
                let (earlier, later) = (written(pair[0]), written(pair[1]));
                return Err(ElasticRefused::NotInOrder { earlier, later });
            }
        }
        Ok(Self { steps })
    }
}

fn step(text: &str) -> Result<(usize, usize), ElasticRefused> {
    let number = |text: &str| text.trim().parse().ok().filter(|&number: &usize| number > 0);
    let numbers = text.split_once(':').and_then(|(requests, k)| number(requests).zip(number(k)));
    numbers.ok_or_else(|| ElasticRefused::NotAStep(text.into()))
}

impl Elastic {
    /// Fails if a step asks for more chains than are `loaded`.
    pub fn check(&self, loaded: usize) -> Result<(), ElasticRefused> {
        match self.steps.first() {
            Some(&(_, asked)) if asked > loaded => Err(ElasticRefused::NotLoaded { asked, loaded }),
            _ => Ok(()),
        }
    }

    /// k while so many requests are in progress, of `loaded` chains.
    fn chains(&self, in_progress: usize, loaded: usize) -> usize {
        let reached = self.steps.iter().take_while(|(requests, _)| *requests <= in_progress);
        reached.last().map_or(loaded, |(_, k)| *k)
    }
}

/// The requests in progress, and the chains that answer the next one.
#[derive(Clone, Debug)]
pub(super) struct Load {
    elastic: Elastic,
    in_progress: Arc<AtomicUsize>,
}

impl Load {
    pub(super) fn new(elastic: Elastic) -> Self {
        Self { elastic, in_progress: Arc::default() }
    }

    /// Counts a request as in progress until what this returns is dropped.
    pub(super) fn enter(&self) -> InProgress {
        InProgress {
            with_this: self.in_progress.fetch_add(1, Ordering::Relaxed) + 1,
            in_progress: self.in_progress.clone(),
        }
    }

    /// k for a request that leaves it open, of `loaded` chains.
    pub(super) fn chains(&self, request: &InProgress, loaded: usize) -> usize {
        self.elastic.chains(request.with_this, loaded)
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct InProgress {
    /// How many there were when it came, with itself.
    with_this: usize,
    in_progress: Arc<AtomicUsize>,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_requests_get_fewer_chains() {
        let elastic: Elastic = "8:3, 16:1".parse().unwrap();
        let chains = [1, 7, 8, 15, 16, 99].map(|requests| elastic.chains(requests, 4));
        assert_eq!(chains, [4, 4, 3, 3, 1, 1]);
        assert_eq!(Elastic::default().chains(99, 4), 4);
        assert_eq!(elastic.check(3), Ok(()));
        let refused = elastic.check(2).unwrap_err().to_string();
        assert!(refused.contains("3 chains, where 2 are loaded: expected at most 2"), "{refused}");
    }

    #[test]
    fn what_is_not_a_table_of_chains_is_refused() {
        for text in ["", "8", "8:", ":2", "8:0", "0:2", "8:2,", "a:b", "8:2:1", "-8:2"] {
            let refused = text.parse::<Elastic>().unwrap_err();
            assert!(matches!(refused, ElasticRefused::NotAStep(_)), "{text}: {refused}");
        }
        for text in ["8:2,8:1", "16:2,8:1", "8:2,16:2", "8:1,16:2"] {
            let refused = text.parse::<Elastic>().unwrap_err().to_string();
            assert!(refused.contains("more requests and fewer chains"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_request_is_in_progress_until_it_is_dropped() {
        let load = Load::new("2:1".parse().unwrap());
        let first = load.enter();
        let second = load.enter();
        assert_eq!([&first, &second].map(|request| load.chains(request, 4)), [4, 1]);
        drop(first);
        drop(second);
        assert_eq!(load.chains(&load.enter(), 4), 4);
    }
}
