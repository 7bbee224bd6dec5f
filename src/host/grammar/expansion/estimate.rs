//! The estimated expansion of one schema.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{count, texts};

/// The upper bound of estimates. Products of bounded estimates are finite.
pub const UPPER_BOUND: f64 = 1e100;

/// The size of a text. The unit is one schema, about a kilobyte.
pub fn text_size(text: &str) -> f64 {
    text.len() as f64 / 1000.0
}

/// The estimated expansion of a schema.
#[derive(Clone)]
pub struct Expansion<'a> {
    /// The number of schemas, including referenced ones.
    pub size: f64,
    /// The number of alternatives. A schema that is merged with this one is copied this many times.
    pub alternatives: f64,
    /// The number of additional copies if the merge descends into common properties.
    pub inner: f64,
    /// The combinations of the regular expressions for one string, of the alternative that has most.
    pub combinations: f64,
    /// Whether the schema is recursive.
    pub cyclic: bool,
    /// The properties that have a schema of their own.
    pub names: BTreeSet<&'a str>,
    /// Whether any other property has a schema.
    pub all_names: bool,
}

impl<'a> Expansion<'a> {
    pub fn one() -> Self {
        let names = BTreeSet::new();
        Self {
            size: 1.0,
            alternatives: 1.0,
            inner: 0.0,
            combinations: 1.0,
            cyclic: false,
            names,
            all_names: false,
        }
    }

    /// The expansion of a fixed set of values.
    pub fn literals<'v>(values: impl Iterator<Item = &'v Value>) -> Self {
        let (mut counts, mut text, mut alternatives) = (0.0, 0.0, 0.0f64);
        for value in values {
            counts += count(value);
            text += texts(value);
            alternatives += 1.0;
        }
        Self {
            size: counts + text,
            alternatives: alternatives.max(1.0),
            all_names: counts > alternatives,
            ..Self::one()
        }
    }

    /// The number of copies of a schema that is merged with this one and has common properties.
    pub fn copies(&self) -> f64 {
        (self.alternatives * (1.0 + self.inner)).min(UPPER_BOUND)
    }

    /// Combines all fields except `size` and `alternatives`.
    pub fn with(mut self, other: Self) -> Self {
        self.inner = self.inner.max(other.inner);
        self.combinations = self.combinations.max(other.combinations);
        self.cyclic |= other.cyclic;
        self.all_names |= other.all_names;
        self.names.extend(other.names);
        self
    }

    /// Whether a merge descends into a common property.
    pub fn overlaps(&self, other: &Self) -> bool {
        let any = |expansion: &Self| expansion.all_names || !expansion.names.is_empty();
        !self.names.is_disjoint(&other.names)
            || self.all_names && any(other)
            || other.all_names && any(self)
    }
}
