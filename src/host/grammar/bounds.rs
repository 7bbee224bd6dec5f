//! Refuses bounds of numbers that the compiler gets wrong.
//!
//! llguidance 1.9 computes bounds of integers as i64 and does not stop at the smallest one: the negated bound is negative
//! again, and the stack overflows, which ends the process. Larger bounds are rounded. And between an exclusive bound and
//! another one with the same integer part it lets the exclusive bound through.

use serde_json::Value;

use super::GrammarError;

/// All integers up to this one are numbers of f64, in which bounds are computed.
const MAX_BOUND: f64 = 9_007_199_254_740_992.0;
/// Keywords whose values are data.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// Fails if a bound in `schema` is too large, or if an exclusive bound would let itself through. Schemas can be merged, so
/// bounds count together wherever they are.
pub(super) fn check(schema: &Value) -> Result<(), GrammarError> {
    let mut bounds = Bounds::default();
    bounds.collect(schema)?;
    for (exclusive, others, names) in [
        (&bounds.exclusive_lower, &bounds.upper, ("exclusiveMinimum", "maximum")),
        (&bounds.exclusive_upper, &bounds.lower, ("exclusiveMaximum", "minimum")),
    ] {
        for bound in exclusive.iter().filter(|bound| bound.fract() == 0.0) {
            // Equal bounds are another error.
            if let Some(other) =
                others.iter().find(|other| other.trunc() == *bound && other != &bound)
            {
                let (keyword, other_keyword) = names;
                return Err(GrammarError::Invalid(format!(
                    "{keyword} {bound} with a {other_keyword} of {other} is not supported: expected bounds with \
                     different integer parts, or one that is not exclusive"
                )));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Bounds {
    lower: Vec<f64>,
    upper: Vec<f64>,
    exclusive_lower: Vec<f64>,
    exclusive_upper: Vec<f64>,
}

impl Bounds {
    fn collect(&mut self, value: &Value) -> Result<(), GrammarError> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.collect(item)),
            Value::Object(entries) => entries.iter().try_for_each(|(key, value)| {
                self.bound(key, value)?;
                if DATA.contains(&key.as_str()) {
                    Ok(())
                } else {
                    self.collect(value)
                }
            }),
            _ => Ok(()),
        }
    }

    fn bound(&mut self, keyword: &str, value: &Value) -> Result<(), GrammarError> {
        let kinds: [&mut Vec<f64>; 2] = match keyword {
            "minimum" => [&mut self.lower, &mut Vec::new()],
            "maximum" => [&mut self.upper, &mut Vec::new()],
            "exclusiveMinimum" => [&mut self.lower, &mut self.exclusive_lower],
            "exclusiveMaximum" => [&mut self.upper, &mut self.exclusive_upper],
            _ => return Ok(()),
        };
        let Some(bound) = value.as_f64() else { return Ok(()) };
        if bound.abs() > MAX_BOUND {
            return Err(GrammarError::Invalid(format!(
                "{keyword} {value} is not supported: expected a number from -2^53 to 2^53, or no bound"
            )));
        }
        kinds.into_iter().for_each(|kind| kind.push(bound));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attacks::{compile, matches};
    use super::super::Grammar;
    use super::*;

    #[test]
    fn bounds_that_are_no_i64_or_inexact_are_refused() {
        for bounds in [
            json!({"minimum": -1e19, "maximum": -1e19}),
            json!({"minimum": -1e300, "exclusiveMaximum": -9_223_372_036_854_775_808_i64}),
            json!({"minimum": i64::MIN, "maximum": i64::MIN + 1}),
            json!({"minimum": u64::MAX, "maximum": 18_446_744_073_709_551_616_f64}),
            json!({"exclusiveMinimum": 1e300}),
        ] {
            for schema in [
                bounds.clone(),
                json!({"properties": {"a": {"anyOf": [bounds.clone()]}}}),
                json!({"$ref": "#/$defs/a", "$defs": {"a": bounds.clone()}}),
            ] {
                let refused = compile(Grammar::JsonSchema(schema)).err().unwrap().to_string();
                assert!(refused.contains("-2^53 to 2^53"), "{refused}");
            }
            let lark = format!("start: %json {bounds}");
            assert!(compile(Grammar::Lark(lark)).is_err());
        }
        for bound in [MAX_BOUND, -MAX_BOUND] {
            assert_eq!(check(&json!({"type": "integer", "minimum": bound})), Ok(()));
        }
        assert_eq!(check(&json!({"const": {"minimum": 1e300}})), Ok(()));
        assert_eq!(check(&json!({"properties": {"minimum": {"type": "integer"}}})), Ok(()));
    }

    #[test]
    fn exclusive_bounds_that_would_be_let_through_are_refused() {
        for (lower, upper) in [
            (json!({"exclusiveMinimum": 0}), json!({"exclusiveMaximum": 0.5})),
            (json!({"exclusiveMinimum": 0}), json!({"maximum": 0.5})),
            (json!({"exclusiveMinimum": 1}), json!({"exclusiveMaximum": 1.5})),
            (json!({"minimum": -0.5}), json!({"exclusiveMaximum": 0})),
            (json!({"exclusiveMinimum": -1.5}), json!({"exclusiveMaximum": -1})),
        ] {
            let mut both = lower.clone();
            both.as_object_mut().unwrap().extend(upper.as_object().unwrap().clone());
            for schema in [both, json!({"allOf": [lower, upper]})] {
                let refused = check(&schema).unwrap_err().to_string();
                assert!(
                    refused.contains("exclusiveM") && refused.contains("integer parts"),
                    "{refused}"
                );
            }
        }
    }

    /// Which numbers match is compared with the bounds, for all pairs of some bounds.
    #[test]
    fn numbers_match_if_they_are_within_their_bounds() {
        let numbers =
            [-2.5, -2.0, -1.5, -1.0, -0.75, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 9.0, 10.0];
        for lower in numbers {
            for upper in numbers.into_iter().filter(|upper| *upper > lower) {
                for (low, high) in [
                    ("minimum", "maximum"),
                    ("exclusiveMinimum", "maximum"),
                    ("minimum", "exclusiveMaximum"),
                    ("exclusiveMinimum", "exclusiveMaximum"),
                ] {
                    let schema = json!({"type": "number", low: lower, high: upper});
                    let Ok(grammar) = compile(Grammar::JsonSchema(schema.clone())) else {
                        assert!(check(&schema).is_err(), "{schema}");
                        continue;
                    };
                    for number in numbers {
                        let is_within = (number > lower || number == lower && low == "minimum")
                            && (number < upper || number == upper && high == "maximum");
                        let found = matches(&grammar, &number.to_string());
                        assert_eq!(found, is_within, "{number} and {schema}");
                    }
                    let zero = (0.0 > lower || lower == 0.0 && low == "minimum")
                        && (0.0 < upper || upper == 0.0 && high == "maximum");
                    assert!(zero || !matches(&grammar, "-0"), "-0 and {schema}");
                }
            }
        }
    }
}
