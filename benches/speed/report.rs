//! The tables of a setting.

use anyhow::Result;
use colm_testing::table::Table;

use super::cells::{cell, times};
use super::contender::{Contender, HOST_LLAMA, LLAMA_CPP};
use super::protocol::EngineKind;
use super::results::{Measure, Results};

/// One request at a time: a row per contender and prompt length.
pub fn single(results: &Results) -> Result<Table> {
    let mut table = Table::new([
        "one request at a time",
        "prompt",
        "prefill ms",
        "tokens/s",
        "/ llama.cpp",
        "/ mistral.rs",
        "decode ms",
        "tokens/s",
        "/ llama.cpp",
        "/ mistral.rs",
        "time / weight bytes",
        "time / weight and KV bytes",
    ]);
    for contender in &results.contenders {
        for length in results.arguments(Measure::Prefill) {
            if let Some(row) = single_row(results, contender, length)? {
                table.push(row);
            }
        }
    }
    Ok(table)
}

fn single_row(
    results: &Results,
    contender: &Contender,
    length: usize,
) -> Result<Option<Vec<String>>> {
    let name = contender.name();
    let (prefill, decode) = (Measure::Prefill(length), Measure::Decode(length));
    let (Some(prefill_ms), Some(decode_ms)) =
        (results.median(&name, prefill), results.median(&name, decode))
    else {
        return Ok(None);
    };
    let against = |other, measure| times(results.times_as_fast(&name, other, measure));
    let over_bytes = match contender.model.engine {
        EngineKind::Colm => results.decode_time_over_bytes(contender, length)?,
        EngineKind::HostLlama | EngineKind::LlamaCpp => None,
    };
    Ok(Some(vec![
        name.clone(),
        length.to_string(),
        cell(Some(prefill_ms)),
        cell(Some(length as f64 / prefill_ms * 1e3)),
        against(LLAMA_CPP, prefill),
        against(HOST_LLAMA, prefill),
        cell(Some(decode_ms)),
        cell(Some(1e3 / decode_ms)),
        against(LLAMA_CPP, decode),
        against(HOST_LLAMA, decode),
        cell(over_bytes.map(|(weights, _)| weights)),
        cell(over_bytes.map(|(_, with_kv)| with_kv)),
    ]))
}

/// A row per contender: load time, memory, prefill time over prompt length, concurrent requests.
pub fn overall(results: &Results) -> Table {
    let (lengths, counts) =
        (results.arguments(Measure::Prefill), results.arguments(Measure::Concurrent));
    let ends = lengths.first().zip(lengths.last()).filter(|(short, long)| short < long);
    let growth = match ends {
        Some((short, long)) => format!("{long} over {short}"),
        None => "long over short".into(),
    };
    let mut header = vec!["overall".to_string(), "load ms".into(), "peak MiB".into(), growth];
    for count in &counts {
        let columns =
            [format!("{count} concurrent, tokens/s"), "/ llama.cpp".into(), "/ mistral.rs".into()];
        header.extend(columns);
    }
    let mut table = Table::new(header);
    for name in results.contenders.iter().map(Contender::name) {
        let growth = ends.and_then(|(short, long)| results.prefill_growth(&name, *long, *short));
        let mut row = vec![
            name.clone(),
            cell(results.median(&name, Measure::Load)),
            cell(results.median(&name, Measure::PeakMemory)),
            cell(growth),
        ];
        for measure in counts.iter().copied().map(Measure::Concurrent) {
            row.push(cell(results.median(&name, measure)));
            row.push(times(results.times_as_fast(&name, LLAMA_CPP, measure)));
            row.push(times(results.times_as_fast(&name, HOST_LLAMA, measure)));
        }
        table.push(row);
    }
    table
}

/// Every value of every round.
pub fn values(results: &[Results]) -> Table {
    let mut table = Table::new(["setting", "contender", "measure", "of", "round", "value", "unit"]);
    for results in results {
        for (contender, measure, values) in results.values() {
            let (name, argument, unit) = measure.columns();
            for (round, value) in values.iter().enumerate() {
                table.push(vec![
                    results.setting.name(),
                    contender.clone(),
                    name.into(),
                    argument.map(|argument| argument.to_string()).unwrap_or_default(),
                    (round + 1).to_string(),
                    format!("{value:.4}"),
                    unit.into(),
                ]);
            }
        }
    }
    table
}
