//! The ratios that this project holds itself to, each of the same run.

use anyhow::Result;
use colm_testing::table::Table;

use super::cells::cell;
use super::contender::{COLM_DENSE, HOST_LLAMA, LLAMA_CPP};
use super::protocol::EngineKind;
use super::results::{Measure, Results};
use super::shape::Weights;

/// A ratio with what it has to reach and what is aimed at.
struct Goal {
    name: String,
    measured: Option<f64>,
    bound: Bound,
    floor: f64,
    goal: f64,
}

enum Bound {
    AtLeast,
    AtMost,
}

impl Goal {
    fn at_least(name: &str, measured: Option<f64>, floor: f64, goal: f64) -> Self {
        Self { name: name.into(), measured, bound: Bound::AtLeast, floor, goal }
    }

    fn at_most(name: String, measured: Option<f64>, floor: f64, goal: f64) -> Self {
        Self { name, measured, bound: Bound::AtMost, floor, goal }
    }

    fn verdict(&self) -> &'static str {
        let holds = |measured: f64, limit: f64| match self.bound {
            Bound::AtLeast => measured >= limit,
            Bound::AtMost => measured <= limit,
        };
        match self.measured {
            None => "not measured",
            Some(measured) if holds(measured, self.goal) => "goal met",
            Some(measured) if holds(measured, self.floor) => "floor met",
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
            format!("{sign} {}", self.floor),
            format!("{sign} {}", self.goal),
            self.verdict().into(),
        ]
    }
}

/// All goals of all settings.
pub fn table(results: &[Results]) -> Result<Table> {
    let mut table = Table::new(["ratio", "setting", "measured", "floor", "goal", "verdict"]);
    for results in results {
        for goal in goals(results)? {
            table.push(goal.row(results.setting.name()));
        }
    }
    Ok(table)
}

fn goals(results: &Results) -> Result<Vec<Goal>> {
    let fast = |who, other, measure| results.times_as_fast(who, other, measure);
    let (prefill, decode) = (Measure::Prefill(2048), Measure::Decode(1024));
    match results.setting.weights {
        Weights::Q8_0 => {
            let measured = fast(COLM_DENSE, LLAMA_CPP, decode);
            let name = "colm [1] decode at 1024 / llama.cpp";
            return Ok(vec![Goal::at_least(name, measured, 0.8, 1.0)]);
        }
        Weights::Q4k => return Ok(Vec::new()),
        Weights::F32 | Weights::Bf16 => {}
    }
    let air = "Air [1,1,1,1] k=4";
    let at_least = |name, who, other, measure, floor, goal| {
        Goal::at_least(name, fast(who, other, measure), floor, goal)
    };
    let (cpp, host, many) = (LLAMA_CPP, HOST_LLAMA, Measure::Together(32));
    let mut goals = vec![
        at_least("colm [1] prefill 2048 / host's Llama", COLM_DENSE, host, prefill, 2.5, 3.5),
        at_least("colm [1] prefill 2048 / llama.cpp", COLM_DENSE, cpp, prefill, 0.9, 1.1),
        at_least("colm [1] decode at 1024 / llama.cpp", COLM_DENSE, cpp, decode, 0.9, 1.1),
        at_least("Air [1,1,1,1] k=4 prefill 2048 / host's Llama", air, host, prefill, 25., 35.),
        at_least("Air [1,1,1,1] k=4 prefill 2048 / llama.cpp", air, cpp, prefill, 9., 13.),
        at_least("Air [1,1,1,1] k=4, 32 at once / host's Llama", air, host, many, 8., 15.),
        at_least("Air [1,1] k=2, 32 at once / host's Llama", "Air [1,1] k=2", host, many, 8., 15.),
    ];
    goals.extend(decode_of_bytes(results, 1024)?);
    goals.push(prefill_growth(results));
    Ok(goals)
}

/// The slowest of all chain counts, over the bytes of its weights and over those of its KV cache as well.
fn decode_of_bytes(results: &Results, prompt: usize) -> Result<[Goal; 2]> {
    let mut all = Vec::new();
    for contender in &results.contenders {
        if contender.model.engine == EngineKind::Colm && contender.model.chains() > 1 {
            let measured = results.decode_of_bytes(contender, prompt)?;
            all.extend(measured.map(|measured| (contender.name(), measured)));
        }
    }
    let worst = |bytes: &str, of: fn((f64, f64)) -> f64| {
        let values = all.iter().map(|(name, measured)| (name, of(*measured)));
        let worst = values.max_by(|left, right| left.1.total_cmp(&right.1));
        let name = worst.map(|(name, _)| format!(" ({name})")).unwrap_or_default();
        let name = format!("decode at {prompt}, time / share of {bytes}, worst{name}");
        Goal::at_most(name, worst.map(|(_, value)| value), 1.15, 1.05)
    };
    Ok([worst("weights", |both| both.0), worst("weights and KV", |both| both.1)])
}

/// The worst of Air's models and chain counts.
fn prefill_growth(results: &Results) -> Goal {
    let names = results.contenders.iter().map(|contender| contender.name());
    let air = names.filter(|name| name.starts_with("Air"));
    let growth = air.filter_map(|name| Some((results.prefill_growth(&name, 4096, 512)?, name)));
    let worst = growth.max_by(|left, right| left.0.total_cmp(&right.0));
    let who = worst.as_ref().map(|(_, name)| format!(" ({name})")).unwrap_or_default();
    let name = format!("Air prefill per token, 4096 / 512, worst{who}");
    Goal::at_most(name, worst.map(|(value, _)| value), 1.3, 1.15)
}
