//! The tables of a setting.

use anyhow::Result;
use colm_testing::table::Table;

use super::cells::{cell, times};
use super::contender::{Contender, HOST_LLAMA, LLAMA_CPP};
use super::protocol::EngineKind;
use super::results::{Measure, Results};

/// A row per contender and prompt length: one request at a time.
pub fn single(results: &Results) -> Result<Table> {
    let mut table = Table::new([
        "one request at a time",
        "prompt",
        "prefill ms",
        "tokens/s",
        "/ host",
        "/ llama.cpp",
        "decode ms",
        "tokens/s",
        "/ host",
        "/ llama.cpp",
        "of its weights",
        "and its KV",
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
    let of_bytes = match contender.model.engine {
        EngineKind::Colm => results.decode_of_bytes(contender, length)?,
        EngineKind::HostLlama | EngineKind::LlamaCpp => None,
    };
    Ok(Some(vec![
        name.clone(),
        length.to_string(),
        cell(Some(prefill_ms)),
        cell(Some(length as f64 / prefill_ms * 1e3)),
        against(HOST_LLAMA, prefill),
        against(LLAMA_CPP, prefill),
        cell(Some(decode_ms)),
        cell(Some(1e3 / decode_ms)),
        against(HOST_LLAMA, decode),
        against(LLAMA_CPP, decode),
        cell(of_bytes.map(|(weights, _)| weights)),
        cell(of_bytes.map(|(_, with_kv)| with_kv)),
    ]))
}

/// A row per contender: loading, memory, growth with length, requests at once.
pub fn whole(results: &Results) -> Table {
    let (lengths, counts) =
        (results.arguments(Measure::Prefill), results.arguments(Measure::Together));
    let ends = lengths.first().zip(lengths.last()).filter(|(short, long)| short < long);
    let growth = match ends {
        Some((short, long)) => format!("{long} over {short}"),
        None => "long over short".into(),
    };
    let mut header = vec!["as a whole".to_string(), "load ms".into(), "peak MiB".into(), growth];
    for count in &counts {
        let columns = [format!("{count} at once tokens/s"), "/ host".into(), "/ llama.cpp".into()];
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
        for measure in counts.iter().copied().map(Measure::Together) {
            row.push(cell(results.median(&name, measure)));
            row.push(times(results.times_as_fast(&name, HOST_LLAMA, measure)));
            row.push(times(results.times_as_fast(&name, LLAMA_CPP, measure)));
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
            let (name, argument, unit) = measure.words();
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
