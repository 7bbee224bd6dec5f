//! The measured values of a setting, and ratios of them.

use std::collections::BTreeMap;

use anyhow::Result;
use colm_testing::statistics::median;

use super::contender::{Contender, COLM_DENSE};
use super::shape::Setting;

/// A measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Load time in milliseconds, with the files in the page cache.
    Load,
    /// Peak memory in MiB of a process that loads the model and answers one request.
    PeakMemory,
    /// Milliseconds from sending a prompt of this many tokens to its first new token.
    Prefill(usize),
    /// Milliseconds per decoded token after a prompt of this many tokens.
    Decode(usize),
    /// Tokens per second with this many requests at once: tokens of prompts and answers over the time from sending the
    /// requests to the last token.
    Concurrent(usize),
}

impl Measure {
    /// Name, argument and unit for the CSV file.
    pub fn columns(self) -> (&'static str, Option<usize>, &'static str) {
        match self {
            Self::Load => ("load", None, "ms"),
            Self::PeakMemory => ("peak memory", None, "MiB"),
            Self::Prefill(tokens) => ("prefill", Some(tokens), "ms"),
            Self::Decode(tokens) => ("decode", Some(tokens), "ms/token"),
            Self::Concurrent(requests) => ("concurrent", Some(requests), "tokens/s"),
        }
    }

    /// Whether larger values are better.
    fn is_speed(self) -> bool {
        matches!(self, Self::Concurrent(_))
    }
}

/// All values of a setting.
pub struct Results {
    pub setting: Setting,
    /// In the order of the tables.
    pub contenders: Vec<Contender>,
    /// Tokens decoded after each prompt.
    pub decode: usize,
    values: BTreeMap<(String, Measure), Vec<f64>>,
    /// The reason why a contender could not be measured, or not completely.
    unavailable: BTreeMap<String, String>,
}

impl Results {
    /// Without values.
    pub fn new(setting: Setting, contenders: Vec<Contender>, decode: usize) -> Self {
        let (values, unavailable) = Default::default();
        Self { setting, contenders, decode, values, unavailable }
    }

    /// Adds a value.
    pub fn add(&mut self, contender: &str, measure: Measure, value: f64) {
        self.values.entry((contender.into(), measure)).or_default().push(value);
    }

    /// Excludes `contender` from further measurements.
    pub fn set_unavailable(&mut self, contender: &str, reason: String) {
        self.unavailable.entry(contender.into()).or_insert(reason);
    }

    /// Whether `contender` can be measured.
    pub fn is_available(&self, contender: &str) -> bool {
        !self.unavailable.contains_key(contender)
    }

    /// The contenders that cannot be measured, with reasons.
    pub fn unavailable(&self) -> impl Iterator<Item = (&String, &String)> {
        self.unavailable.iter()
    }

    /// Every value by contender and measure.
    pub fn values(&self) -> impl Iterator<Item = (&String, Measure, &[f64])> {
        self.values
            .iter()
            .map(|((contender, measure), values)| (contender, *measure, values.as_slice()))
    }

    /// The arguments of `measure` that were measured, such as prompt lengths.
    pub fn arguments(&self, measure: impl Fn(usize) -> Measure) -> Vec<usize> {
        let mut arguments: Vec<usize> =
            self.values.keys().filter_map(|(_, measure)| measure.columns().1).collect();
        arguments.sort_unstable();
        arguments.dedup();
        let measured =
            |argument: &usize| self.values.keys().any(|(_, found)| *found == measure(*argument));
        arguments.into_iter().filter(measured).collect()
    }

    /// The median over the rounds.
    pub fn median(&self, contender: &str, measure: Measure) -> Option<f64> {
        median(self.values.get(&(contender.into(), measure))?)
    }

    /// The speed of `contender` over that of `other`.
    pub fn times_as_fast(&self, contender: &str, other: &str, measure: Measure) -> Option<f64> {
        let (own, other) = (self.median(contender, measure)?, self.median(other, measure)?);
        Some(if measure.is_speed() { own / other } else { other / own })
    }

    /// Decode time relative to that of `colm [1]`, divided by the bytes read per token relative to those of `colm [1]`:
    /// for weights alone, and for weights and KV cache. 1 means the same time per byte.
    pub fn decode_time_over_bytes(
        &self,
        contender: &Contender,
        prompt: usize,
    ) -> Result<Option<(f64, f64)>> {
        let measure = Measure::Decode(prompt);
        let dense = self.contenders.iter().find(|other| other.name() == COLM_DENSE);
        let times = (self.median(&contender.name(), measure), self.median(COLM_DENSE, measure));
        let (Some(dense), (Some(own), Some(reference))) = (dense, times) else {
            return Ok(None);
        };
        let context = prompt + self.decode / 2;
        let weights = |contender: &Contender| contender.weight_bytes(&self.setting);
        let all = |contender: &Contender| {
            Ok(weights(contender)? + contender.kv_bytes(&self.setting, context)?)
        };
        let over = |bytes: &dyn Fn(&Contender) -> Result<f64>| -> Result<f64> {
            Ok(own / (reference * bytes(contender)? / bytes(dense)?))
        };
        Ok(Some((over(&weights)?, over(&all)?)))
    }

    /// Prefill time per token at a prompt of `long` tokens over that at `short` tokens.
    pub fn prefill_growth(&self, contender: &str, long: usize, short: usize) -> Option<f64> {
        let per_token =
            |length: usize| Some(self.median(contender, Measure::Prefill(length))? / length as f64);
        Some(per_token(long)? / per_token(short)?)
    }
}
