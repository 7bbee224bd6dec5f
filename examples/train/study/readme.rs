//! The tables of the study's README, and the numbers in them.

use anyhow::{Context, Result};
use colm_testing::statistics::Summary;
use colm_testing::table::Table;

/// Returns `text` with `table` between the markers `<!-- NAME -->` and `<!-- end of NAME -->`, in place of what is
/// there.
pub fn insert(text: &str, name: &str, table: &Table) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let missing = || format!("no {begin} followed by {end}");
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}\n\n{}\n{end}{after}", table.markdown()))
}

/// Mean and spread, such as `1.203 ± 0.011`.
pub fn loss(summary: Option<Summary>) -> String {
    format_summary(summary, |value| format!("{value:.3}"))
}

/// Mean and spread of a share in percent, such as `34.1 ± 0.8`.
pub fn percent(summary: Option<Summary>) -> String {
    format_summary(summary, |value| format!("{:.1}", 100. * value))
}

fn format_summary(summary: Option<Summary>, value: impl Fn(f64) -> String) -> String {
    match summary {
        None => "-".into(),
        Some(Summary { mean, spread: None, .. }) => value(mean),
        Some(Summary { mean, spread: Some(spread), .. }) => {
            format!("{} ± {}", value(mean), value(spread))
        }
    }
}
