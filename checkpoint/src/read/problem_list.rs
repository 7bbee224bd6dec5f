//! A bounded list of the problems of a checkpoint.

use std::path::Path;

use crate::format::CheckpointError;

/// How many problems are listed. A config of thousands of layers, or a long index, could otherwise give any number.
const MAX_LISTED: usize = 1000;
/// How many more are counted.
const MAX_COUNTED: usize = 1_000_000;

/// The problems found so far.
#[derive(Debug)]
pub(crate) struct ProblemList {
    listed: Vec<CheckpointError>,
    more: usize,
    max_listed: usize,
    max_counted: usize,
}

impl ProblemList {
    /// A list that keeps the first 1,000 problems and counts the others.
    pub fn all() -> Self {
        Self { listed: Vec::new(), more: 0, max_listed: MAX_LISTED, max_counted: MAX_COUNTED }
    }

    /// A list that is full with the first problem.
    pub fn first() -> Self {
        Self { listed: Vec::new(), more: 0, max_listed: 1, max_counted: 0 }
    }

    /// Whether the next problem is the only one to be reported.
    pub fn wants_one(&self) -> bool {
        self.listed.is_empty() && self.max_listed == 1
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

    /// Whether further problems would be ignored.
    pub fn is_full(&self) -> bool {
        self.listed.len() == self.max_listed && self.more == self.max_counted
    }

    /// Whether there are more problems than are listed.
    pub fn is_truncated(&self) -> bool {
        self.more > 0
    }

    /// The listed problems of folder `dir`, and if there are more, one that gives their number.
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
