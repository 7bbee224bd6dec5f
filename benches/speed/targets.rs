//! Target values of the project for ratios within one run.

use anyhow::Result;
use colm_testing::table::Table;

use super::cells::cell;
use super::contender::{COLM_DENSE, HOST_LLAMA, LLAMA_CPP};
use super::protocol::EngineKind;
use super::results::{Measure, Results};
use super::shape::Weights;

/// A ratio, the value it must reach and the value aimed at.
struct Target {
    name: String,
    measured: Option<f64>,
    bound: Bound,
    required: f64,
    target: f64,
}

enum Bound {
    AtLeast,
    AtMost,
}

impl Target {
    fn at_least(name: String, measured: Option<f64>, required: f64, target: f64) -> Self {
        Self { name, measured, bound: Bound::AtLeast, required, target }
    }

    fn at_most(name: String, measured: Option<f64>, required: f64, target: f64) -> Self {
        Self { name, measured, bound: Bound::AtMost, required, target }
    }

    fn verdict(&self) -> &'static str {
        let holds = |measured: f64, limit: f64| match self.bound {
            Bound::AtLeast => measured >= limit,
            Bound::AtMost => measured <= limit,
        };
        match self.measured {
            None => "not measured",
            Some(measured) if holds(measured, self.target) => "target met",
            Some(measured) if holds(measured, self.required) => "requirement met",
            Some(_) => "missed",
        }
    }

    fn row(&self, setting: String) -> Vec<String> {
        let sign = match self.bound {
            Bound::AtLeast => ">=",
            Bound::AtMost => "<=",
        };
        vec![
            self.name.clone(),
            setting,
            cell(self.measured),
            format!("{sign} {}", self.required),
            format!("{sign} {}", self.target),
            self.verdict().into(),
        ]
    }
}

/// All targets of all settings.
pub fn table(results: &[Results]) -> Result<Table> {
    let mut table = Table::new(["ratio", "setting", "measured", "required", "target", "verdict"]);
    for results in results {
        for target in targets(results)? {
            table.push(target.row(results.setting.name()));
        }
    }
    Ok(table)
}

fn targets(results: &Results) -> Result<Vec<Target>> {
    let (prefill, decode, many) =
        (Measure::Prefill(2048), Measure::Decode(1024), Measure::Concurrent(32));
    let ratio = |contender: &str, other: &str, measure, required, target| {
        let what = match measure {
            Measure::Prefill(tokens) => format!("prefill of {tokens}"),
            Measure::Decode(tokens) => format!("decode after {tokens}"),
            _ => "32 concurrent requests".into(),
        };
        let measured = results.times_as_fast(contender, other, measure);
        Target::at_least(format!("{contender} / {other}, {what}"), measured, required, target)
    };
    match results.setting.weights {
        Weights::Q8_0 => return Ok(vec![ratio(COLM_DENSE, LLAMA_CPP, decode, 0.8, 1.0)]),
        Weights::Q4k => return Ok(Vec::new()),
        Weights::F32 | Weights::Bf16 => {}
    }
    let (air, air_of_two) = ("Air [1,1,1,1] k=4", "Air [1,1] k=2");
    let mut targets = vec![
        ratio(COLM_DENSE, LLAMA_CPP, prefill, 0.9, 1.1),
        ratio(COLM_DENSE, LLAMA_CPP, decode, 0.9, 1.1),
        ratio(COLM_DENSE, HOST_LLAMA, prefill, 2.5, 3.5),
        // Models of the same width, but not the same model: Air has fewer multiply-adds.
        ratio(air, LLAMA_CPP, prefill, 9., 13.),
        ratio(air, HOST_LLAMA, prefill, 25., 35.),
        ratio(air, HOST_LLAMA, many, 8., 15.),
        ratio(air_of_two, HOST_LLAMA, many, 8., 15.),
    ];
    targets.extend(decode_time_over_bytes(results, 1024)?);
    targets.push(prefill_growth(results));
    Ok(targets)
}

/// Decode time over the share of bytes read, of the slowest chain count: for weights alone, and for weights and KV
/// cache.
fn decode_time_over_bytes(results: &Results, prompt: usize) -> Result<[Target; 2]> {
    let mut all = Vec::new();
    for contender in &results.contenders {
        if contender.model.engine == EngineKind::Colm && contender.model.chains() > 1 {
            let measured = results.decode_time_over_bytes(contender, prompt)?;
            all.extend(measured.map(|measured| (contender.name(), measured)));
        }
    }
    let worst = |bytes: &str, of: fn((f64, f64)) -> f64| {
        let values = all.iter().map(|(name, measured)| (name, of(*measured)));
        let worst = values.max_by(|left, right| left.1.total_cmp(&right.1));
        let name = worst.map(|(name, _)| format!(" ({name})")).unwrap_or_default();
        let name = format!("decode after {prompt}, time / share of {bytes}, worst{name}");
        Target::at_most(name, worst.map(|(_, value)| value), 1.15, 1.05)
    };
    Ok([worst("weights", |both| both.0), worst("weights and KV", |both| both.1)])
}

/// Prefill time per token at 4096 tokens over that at 512, of the slowest Air model and chain count.
fn prefill_growth(results: &Results) -> Target {
    let names = results.contenders.iter().map(|contender| contender.name());
    let air = names.filter(|name| name.starts_with("Air"));
    let growth = air.filter_map(|name| Some((results.prefill_growth(&name, 4096, 512)?, name)));
    let worst = growth.max_by(|left, right| left.0.total_cmp(&right.0));
    let contender = worst.as_ref().map(|(_, name)| format!(" ({name})")).unwrap_or_default();
    let name = format!("Air prefill per token, 4096 / 512, worst{contender}");
    Target::at_most(name, worst.map(|(value, _)| value), 1.3, 1.15)
}
