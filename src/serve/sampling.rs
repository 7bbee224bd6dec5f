//! The sampling fields and the ranges of their values.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use colm_checkpoint::abbreviate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::{Dry, Request, Sampling, SamplingDefaults};

/// The most stop strings.
const MAX_STOPS: usize = 16;

/// The longest stop string, in bytes.
const MAX_STOP_BYTES: usize = 1024;

/// The most sequence breakers of the DRY sampler. The engine tokenizes them for each answer.
const MAX_BREAKERS: usize = 32;

/// The most bytes of all sequence breakers.
const MAX_BREAKER_BYTES: usize = 1024;

/// The most entries of `logit_bias`.
const MAX_LOGIT_BIASES: usize = 1024;

/// The sampling parameters of all endpoints.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct SamplingFields {
    /// The sampling temperature. 0 is greedy.
    #[schema(minimum = 0, maximum = 2, default = 1)]
    temperature: Option<f64>,
    /// Nucleus sampling: keep the most likely tokens whose probabilities add up to this value.
    #[schema(minimum = 0, maximum = 1, default = 1)]
    top_p: Option<f64>,
    /// Keep the k most likely tokens. 0 keeps all.
    #[schema(minimum = 0)]
    top_k: Option<u32>,
    /// Keep tokens whose probability is at least this fraction of the highest probability.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Subtract this from the logit of a token for each of its occurrences.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f32>,
    /// Subtract this from the logit of a token that has occurred.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f32>,
    /// Divide the logit of a token that has occurred by this, or multiply it if it is negative.
    #[schema(minimum = 0.01, maximum = 10)]
    repetition_penalty: Option<f32>,
    /// Requests with the same seed and parameters get the same answer. Choice i of n uses seed + i.
    seed: Option<i64>,
    /// A map from token ids to values that are added to the logits, from -100 to 100.
    #[schema(value_type = Option<HashMap<String, f32>>)]
    logit_bias: Option<HashMap<String, f32>>,
    /// DRY sampling ("don't repeat yourself"): the strength of the penalty on tokens that continue a repetition.
    #[schema(minimum = 0, maximum = 100)]
    dry_multiplier: Option<f32>,
    /// The base of the penalty, which grows exponentially with the length of the repetition.
    #[schema(minimum = 1, maximum = 10)]
    dry_base: Option<f32>,
    /// The shortest repetition with a penalty, in tokens.
    dry_allowed_length: Option<u32>,
    /// Strings that end a repetition.
    dry_sequence_breakers: Option<Vec<String>>,
}

/// A stop string, or a list of stop strings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Stop {
    One(String),
    Several(Vec<String>),
}

impl SamplingFields {
    /// Sets the sampling parameters of `request`. `defaults` apply to omitted fields.
    pub fn apply(self, request: &mut Request, defaults: &SamplingDefaults) -> Result<(), ApiError> {
        in_range("temperature", self.temperature, 0. ..=2.)?;
        in_range("top_p", self.top_p, 0. ..=1.)?;
        in_range("min_p", self.min_p, 0. ..=1.)?;
        in_range("frequency_penalty", self.frequency_penalty, -2. ..=2.)?;
        in_range("presence_penalty", self.presence_penalty, -2. ..=2.)?;
        in_range("repetition_penalty", self.repetition_penalty, 0.01..=10.)?;
        let top_k = self.top_k.or(defaults.top_k);
        request.sampling = Sampling {
            temperature: self.temperature.or(defaults.temperature).unwrap_or(1.),
            top_p: self.top_p.or(defaults.top_p),
            top_k: top_k.map(|top_k| top_k as usize).filter(|&top_k| top_k > 0),
            min_p: self.min_p.or(defaults.min_p),
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            repetition_penalty: self.repetition_penalty.or(defaults.repetition_penalty),
            dry: self.dry()?,
        };
        request.seed = self.seed.map(|seed| seed as u64);
        if let Some(bias) = self.logit_bias {
            request.logit_bias = logit_bias(bias)?;
        }
        Ok(())
    }

    fn dry(&self) -> Result<Option<Dry>, ApiError> {
        in_range("dry_multiplier", self.dry_multiplier, 0. ..=100.)?;
        in_range("dry_base", self.dry_base, 1. ..=10.)?;
        let breakers = self.dry_sequence_breakers.clone();
        check_breakers(breakers.as_deref().unwrap_or_default())?;
        let Some(multiplier) = self.dry_multiplier else {
            let alone = self.dry_base.is_some() || self.dry_allowed_length.is_some();
            if alone || breakers.is_some() {
                let message =
                    "the other dry_ fields have no effect without dry_multiplier: expected both";
                return Err(ApiError::invalid_value("dry_multiplier", message));
            }
            return Ok(None);
        };
        let dry = Dry::new(multiplier);
        let allowed = self.dry_allowed_length.map(|length| length as usize);
        Ok(Some(Dry {
            base: self.dry_base.unwrap_or(dry.base),
            allowed_length: allowed.unwrap_or(dry.allowed_length),
            sequence_breakers: breakers,
            ..dry
        }))
    }
}

/// Fails if there are too many sequence breakers, if one is empty, or if they are too long.
fn check_breakers(breakers: &[String]) -> Result<(), ApiError> {
    let (count, bytes) = (breakers.len(), breakers.iter().map(String::len).sum::<usize>());
    let message = if count > MAX_BREAKERS {
        format!("{count} dry_sequence_breakers: expected at most {MAX_BREAKERS}")
    } else if bytes > MAX_BREAKER_BYTES {
        format!("dry_sequence_breakers have {bytes} bytes: expected at most {MAX_BREAKER_BYTES} in total")
    } else if breakers.iter().any(String::is_empty) {
        "dry_sequence_breakers has an empty string: expected strings that are not empty".into()
    } else {
        return Ok(());
    };
    Err(ApiError::invalid_value("dry_sequence_breakers", message))
}

impl Stop {
    /// The stop strings. Fails if there are too many, or if one is empty or too long.
    pub fn strings(stop: Option<Self>) -> Result<Vec<String>, ApiError> {
        let stops = match stop {
            None => return Ok(Vec::new()),
            Some(Self::One(stop)) => vec![stop],
            Some(Self::Several(stops)) => stops,
        };
        if stops.len() > MAX_STOPS {
            let message = format!("{} stop strings: expected at most {MAX_STOPS}", stops.len());
            return Err(ApiError::invalid_value("stop", message));
        }
        match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
            Some(stop) => {
                let message = format!(
                    "a stop string of {} bytes: expected 1 to {MAX_STOP_BYTES}",
                    stop.len()
                );
                Err(ApiError::invalid_value("stop", message))
            }
            None => Ok(stops),
        }
    }
}

/// Fails if `value` is outside `range`.
pub fn in_range<T: PartialOrd + std::fmt::Display + Copy>(
    field: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Result<(), ApiError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (min, max) = range.into_inner();
            let message = format!("{field} is {value}: expected {min} to {max}");
            Err(ApiError::invalid_value(field, message))
        }
        _ => Ok(()),
    }
}

/// Parses the keys of OpenAI's `logit_bias` as token ids.
fn logit_bias(bias: HashMap<String, f32>) -> Result<Vec<(u32, f32)>, ApiError> {
    if bias.len() > MAX_LOGIT_BIASES {
        let message =
            format!("logit_bias has {} tokens: expected at most {MAX_LOGIT_BIASES}", bias.len());
        return Err(ApiError::invalid_value("logit_bias", message));
    }
    let bias = bias.into_iter().map(|(token, bias)| {
        in_range("logit_bias", Some(bias), -100. ..=100.)?;
        // `+5` and `05` would be duplicates of `5`.
        let id = token.parse().ok().filter(|id: &u32| id.to_string() == token);
        let id = id.ok_or_else(|| {
            let message = format!("logit_bias: \"{}\" is not a token id", abbreviate(&token));
            ApiError::invalid_value("logit_bias", message)
        })?;
        Ok((id, bias))
    });
    bias.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    fn applied(fields: Value) -> Result<Request, ApiError> {
        let mut request = Request::tokens([0]);
        let fields = serde_json::from_value::<SamplingFields>(fields).unwrap();
        fields.apply(&mut request, &SamplingDefaults::default())?;
        Ok(request)
    }

    #[test]
    fn the_defaults_of_the_model_apply_to_omitted_fields_only() {
        let defaults = SamplingDefaults {
            temperature: Some(0.6),
            top_p: Some(0.9),
            top_k: Some(40),
            min_p: Some(0.1),
            repetition_penalty: Some(1.1),
        };
        let applied = |fields: Value| {
            let mut request = Request::tokens([0]);
            let fields = serde_json::from_value::<SamplingFields>(fields).unwrap();
            fields.apply(&mut request, &defaults).unwrap();
            let Sampling { temperature, top_p, top_k, min_p, repetition_penalty, .. } =
                request.sampling;
            (temperature, top_p, top_k, min_p, repetition_penalty)
        };
        let omitted = (0.6, Some(0.9), Some(40), Some(0.1), Some(1.1));
        assert_eq!(applied(json!({})), omitted);
        let named =
            json!({"temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1});
        assert_eq!(applied(named), (0., Some(1.), None, Some(0.), Some(1.)));
    }

    #[test]
    fn values_out_of_range_are_refused_by_field() {
        for (field, values) in [
            ("temperature", vec![-0.1, 2.1, 1e300]),
            ("top_p", vec![-0.1, 1.1]),
            ("min_p", vec![-0.1, 1.1]),
            ("frequency_penalty", vec![-2.1, 2.1, 1e30]),
            ("presence_penalty", vec![-2.1, 2.1]),
            ("repetition_penalty", vec![0., -1., 11.]),
            ("dry_multiplier", vec![-1., 1e9]),
        ] {
            for value in values {
                let error = applied(json!({field: value})).err().unwrap();
                assert_eq!(error.param.as_deref(), Some(field), "{value}");
                assert!(error.message.contains("expected"), "{}", error.message);
            }
        }
        assert!(applied(json!({"dry_base": 2})).is_err());
        for breakers in [json!(vec!["a"; 33]), json!([""]), json!(["a".repeat(1025)])] {
            let fields = json!({"dry_multiplier": 1, "dry_sequence_breakers": breakers});
            let error = applied(fields).err().unwrap();
            assert_eq!(error.param.as_deref(), Some("dry_sequence_breakers"));
            assert!(error.message.contains("expected"), "{}", error.message);
        }
        assert!(applied(json!({"logit_bias": {"x": 1}})).is_err());
        assert!(applied(json!({"logit_bias": {"1": 101}})).is_err());
    }

    #[test]
    fn the_keys_of_logit_bias_are_token_ids() {
        assert_eq!(applied(json!({"logit_bias": {"1": 5}})).unwrap().logit_bias, [(1, 5.)]);
        for token in ["a", "01", "+1", "-1", "1.0", "4294967296"] {
            assert!(applied(json!({"logit_bias": {token: 1}})).is_err(), "{token}");
        }
    }

    #[test]
    fn stop_strings_are_limited_and_not_empty() {
        let strings = |stop: Value| Stop::strings(Some(serde_json::from_value(stop).unwrap()));
        assert_eq!(strings(json!("a")).unwrap(), ["a"]);
        assert_eq!(strings(json!(["a", "b"])).unwrap(), ["a", "b"]);
        for refused in [json!(""), json!(["a", ""]), json!(vec!["a"; 17]), json!("a".repeat(1025))]
        {
            assert!(strings(refused).is_err());
        }
    }
}
