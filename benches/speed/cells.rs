//! Numbers in the cells of a table.

/// A number with three or four digits; a dash for none.
pub fn cell(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() >= 100. => format!("{value:.0}"),
        Some(value) if value.abs() >= 10. => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// A ratio such as 2.5x; a dash for none.
pub fn times(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        some => cell(some) + "x",
    }
}
