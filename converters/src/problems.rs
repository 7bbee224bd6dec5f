//! The problems of a checkpoint, as many as anyone reads, and how many more there are.

use std::path::Path;

use crate::error::CheckpointError;

/// How many are listed: a config of thousands of layers, or a long index, could give any number.
const MAX_LISTED: usize = 1000;
/// How many more are counted.
const MAX_COUNTED: usize = 1_000_000;

/// The problems found so far.
#[derive(Debug)]
pub(crate) struct Problems {
    listed: Vec<CheckpointError>,
    more: usize,
    max_listed: usize,
    max_counted: usize,
}

impl Problems {
    /// Keeps the first 1,000 and counts the others.
    pub fn all() -> Self {
        Self { listed: Vec::new(), more: 0, max_listed: MAX_LISTED, max_counted: MAX_COUNTED }
    }

    /// Keeps the first and is full then.
    pub fn first() -> Self {
        Self { listed: Vec::new(), more: 0, max_listed: 1, max_counted: 0 }
    }

    pub fn push(&mut self, problem: CheckpointError) {
        if self.listed.len() < self.max_listed {
            self.listed.push(problem);
        } else if self.more < self.max_counted {
            self.more += 1;
        }
    }

    pub fn extend(&mut self, problems: impl IntoIterator<Item = CheckpointError>) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    /// Whether to look for more is in vain.
    pub fn is_full(&self) -> bool {
        self.listed.len() == self.max_listed && self.more == self.max_counted
    }

    /// Whether there are some that are not listed.
    pub fn are_too_many(&self) -> bool {
        self.more > 0
    }

    /// Those of the folder `dir` that are listed, and one that says how many are not.
    pub fn into_list(self, dir: &Path) -> Vec<CheckpointError> {
        let Self { mut listed, more, .. } = self;
        if more > 0 {
            listed.push(CheckpointError::MoreProblems { dir: dir.into(), more });
        }
        listed
    }

    pub fn into_first(self) -> Option<CheckpointError> {
        self.listed.into_iter().next()
    }
}
