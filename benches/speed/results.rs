//! What was measured in a setting, and the ratios that follow from it.

use std::collections::BTreeMap;

use anyhow::Result;
use colm_testing::statistics::median;

use super::contender::{Contender, COLM_DENSE};
use super::shape::Setting;

/// A quantity, of one contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Milliseconds to load the model, files in the page cache.
    Load,
    /// MiB, of a process that loads the model and answers one request.
    PeakMemory,
    /// Milliseconds from a request of this many tokens to the first new one.
    Prefill(usize),
    /// Milliseconds per token decoded after a prompt of this many.
    Decode(usize),
    /// Tokens per second of this many requests at once: of prompts and answers, over the time from the
    /// first request to the last token.
    Together(usize),
}

impl Measure {
    /// Name, argument and unit, as the CSV file has them.
    pub fn words(self) -> (&'static str, Option<usize>, &'static str) {
        match self {
            Self::Load => ("load", None, "ms"),
            Self::PeakMemory => ("peak memory", None, "MiB"),
            Self::Prefill(tokens) => ("prefill", Some(tokens), "ms"),
            Self::Decode(tokens) => ("decode", Some(tokens), "ms/token"),
            Self::Together(requests) => ("together", Some(requests), "tokens/s"),
        }
    }

    /// Whether more is better.
    fn is_speed(self) -> bool {
        matches!(self, Self::Together(_))
    }
}

/// All values of a setting.
pub struct Results {
    pub setting: Setting,
    /// In the order in which they are listed.
    pub contenders: Vec<Contender>,
    /// Tokens decoded after each prompt.
    pub decode: usize,
    values: BTreeMap<(String, Measure), Vec<f64>>,
    /// Why a contender has no values, or not all.
    absent: BTreeMap<String, String>,
}

impl Results {
    /// Of nothing yet.
    pub fn new(setting: Setting, contenders: Vec<Contender>, decode: usize) -> Self {
        let (values, absent) = Default::default();
        Self { setting, contenders, decode, values, absent }
    }

    /// One more value.
    pub fn add(&mut self, contender: &str, measure: Measure, value: f64) {
        self.values.entry((contender.into(), measure)).or_default().push(value);
    }

    /// `contender` cannot be measured (any more).
    pub fn set_absent(&mut self, contender: &str, reason: String) {
        self.absent.entry(contender.into()).or_insert(reason);
    }

    /// Whether it can be.
    pub fn is_present(&self, contender: &str) -> bool {
        !self.absent.contains_key(contender)
    }

    /// Who cannot, and why.
    pub fn absent(&self) -> impl Iterator<Item = (&String, &String)> {
        self.absent.iter()
    }

    /// Every value by contender and measure.
    pub fn values(&self) -> impl Iterator<Item = (&String, Measure, &[f64])> {
        self.values
            .iter()
            .map(|((contender, measure), values)| (contender, *measure, values.as_slice()))
    }

    /// The arguments of `measure` that have values, such as prompt lengths.
    pub fn arguments(&self, measure: impl Fn(usize) -> Measure) -> Vec<usize> {
        let mut arguments: Vec<usize> =
            self.values.keys().filter_map(|(_, measure)| measure.words().1).collect();
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

    /// How many times as fast as `other` it is.
    pub fn times_as_fast(&self, contender: &str, other: &str, measure: Measure) -> Option<f64> {
        let (own, other) = (self.median(contender, measure)?, self.median(other, measure)?);
        Some(if measure.is_speed() { own / other } else { other / own })
    }

    /// The time of a decoded token after a prompt of `prompt` as a multiple of colm [1]'s x the share of
    /// colm [1]'s bytes that it reads: weights alone, and weights and KV cache.
    pub fn decode_of_bytes(
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
        let weights = |who: &Contender| who.weight_bytes(&self.setting);
        let all = |who: &Contender| Ok(weights(who)? + who.kv_bytes(&self.setting, context)?);
        let against = |bytes: &dyn Fn(&Contender) -> Result<f64>| -> Result<f64> {
            Ok(own / (reference * bytes(contender)? / bytes(dense)?))
        };
        Ok(Some((against(&weights)?, against(&all)?)))
    }

    /// Prefill time per token of the longest prompt over that of the shortest.
    pub fn prefill_growth(&self, contender: &str, long: usize, short: usize) -> Option<f64> {
        let per_token =
            |length: usize| Some(self.median(contender, Measure::Prefill(length))? / length as f64);
        Some(per_token(long)? / per_token(short)?)
    }
}
