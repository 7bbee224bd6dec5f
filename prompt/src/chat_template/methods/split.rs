//! `split`, `rsplit` and `splitlines`.

use minijinja::value::{from_args, Kwargs};
use minijinja::{Error, ErrorKind, Value};

use super::super::whitespace::{is_space, lines};
use super::texts;

/// `text.splitlines(keepends)`.
pub fn splitlines(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (keep_ends, options): (Option<Value>, Kwargs) = from_args(arguments)?;
    let keep_ends = keep_ends.map_or_else(|| options.get("keepends"), |keep| Ok(Some(keep)))?;
    options.assert_all_used()?;
    Ok(texts(&lines(text, keep_ends.is_some_and(|keep: Value| keep.is_true()))))
}

/// `text.split(sep, maxsplit)`, or `rsplit`. Without a separator, splits at runs of white space.
pub fn split(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most, options): (Option<Value>, Option<i64>, Kwargs) = from_args(arguments)?;
    let separator =
        separator.map_or_else(|| options.get("sep"), |separator| Ok(Some(separator)))?;
    let most = most.map_or_else(|| options.get("maxsplit"), |most| Ok(Some(most)))?;
    options.assert_all_used()?;
    let separator = separator.filter(|separator: &Value| !separator.is_none());
    let most = most.and_then(|most: i64| usize::try_from(most).ok()).unwrap_or(usize::MAX - 1);
    let from_right = method == "rsplit";
    let mut parts: Vec<&str> = match separator.as_ref().and_then(|separator| separator.as_str()) {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) if from_right => text.rsplitn(most + 1, separator).collect(),
        Some(separator) => text.splitn(most + 1, separator).collect(),
        None => words(text, most, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(texts(&parts))
}

/// At most `most` words of a string, and the rest as one part. With `from_right` the last words, in reverse order.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut rest = if from_right {
        text.trim_end_matches(is_space)
    } else {
        text.trim_start_matches(is_space)
    };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let end = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        match end.filter(|_| parts.len() < most) {
            Some(end) if from_right => {
                let (before, word) = rest.split_at(end);
                parts.push(word.trim_start_matches(is_space));
                rest = before.trim_end_matches(is_space);
            }
            Some(end) => {
                let (word, after) = rest.split_at(end);
                parts.push(word);
                rest = after.trim_start_matches(is_space);
            }
            None => {
                parts.push(rest);
                break;
            }
        }
    }
    parts
}
