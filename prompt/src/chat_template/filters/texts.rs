//! Filters on strings. Like Jinja's, they accept any value.

use minijinja::value::{from_args, Kwargs, Rest};
use minijinja::{Environment, Error, State, Value};

use super::super::budget::TextLimit;
use super::super::format::filter_format;
use super::super::methods::capitalize;
use super::super::padding::{padded, too_wide, Side, MAX_WIDTH};
use super::super::python::str_of;
use super::super::whitespace::{is_space, LINE_ENDS};
use super::arguments::argument;

pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    env.add_filter("string", |value: Value| str_of(&value));
    env.add_filter("upper", |value: Value| Ok::<_, Error>(str_of(&value)?.to_uppercase()));
    env.add_filter("lower", |value: Value| Ok::<_, Error>(str_of(&value)?.to_lowercase()));
    env.add_filter("title", |value: Value| Ok::<_, Error>(title(&str_of(&value)?)));
    env.add_filter("capitalize", |value: Value| Ok::<_, Error>(capitalize(&str_of(&value)?)));
    env.add_filter("trim", |value: Value, chars: Option<Value>| trim(&value, chars));
    env.add_filter("format", move |state: &State, text: String, values: Rest<Value>| {
        filter_format(limit, state, &text, &values)
    });
    env.add_filter(
        "replace",
        move |state: &State, text: Value, from: Value, to: Value, count: Option<i64>| {
            replace(limit, state, &text, &from, &to, count)
        },
    );
    env.add_filter("indent", move |state: &State, text: Value, arguments: Rest<Value>| {
        indent(limit, state, &text, &arguments)
    });
    env.add_filter("center", |text: Value, width: Option<usize>| {
        padded(&str_of(&text)?, width.unwrap_or(80), ' ', Side::Both)
    });
    env.add_filter("truncate", |text: Value, arguments: Rest<Value>| truncate(&text, &arguments));
    env.add_filter("wordcount", minijinja_contrib::filters::wordcount);
    env.add_filter("striptags", minijinja_contrib::filters::striptags);
    env.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
}

fn trim(value: &Value, chars: Option<Value>) -> Result<String, Error> {
    let text = str_of(value)?;
    Ok(match chars.as_ref().and_then(|chars| chars.as_str()) {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_string(),
        None => text.trim_matches(is_space).to_string(),
    })
}

/// `text` in title case, with the word boundaries of the filter `title`.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        if is_space(before) || "-([{<".contains(before) {
            titled.extend(c.to_uppercase())
        } else {
            titled.extend(c.to_lowercase())
        }
        before = c;
    }
    titled
}

/// The beginning of a string that is too long, and a mark. Words are not split, unless `killwords`.
fn truncate(text: &Value, arguments: &[Value]) -> Result<String, Error> {
    type Arguments = (Option<Value>, Option<Value>, Option<Value>, Option<Value>, Kwargs);
    let (length, kill, end, leeway, options): Arguments = from_args(arguments)?;
    let number = |value: Option<Value>, default: usize| match value {
        Some(value) => usize::try_from(value),
        None => Ok(default),
    };
    let length = number(argument(length, &options, "length")?, 255)?;
    let kill = argument(kill, &options, "killwords")?.is_some_and(|kill| kill.is_true());
    let end = argument(end, &options, "end")?.map_or(Ok("...".into()), |end| str_of(&end))?;
    let leeway = number(argument(leeway, &options, "leeway")?, 5)?;
    options.assert_all_used()?;
    let text = str_of(text)?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = match kept.rsplit_once(' ') {
        Some((words, _)) if !kill => words,
        _ => &kept,
    };
    Ok(format!("{kept}{end}"))
}

/// `str(text).replace(from, to, count)`.
pub fn replace(
    limit: TextLimit,
    state: &State,
    text: &Value,
    from: &Value,
    to: &Value,
    count: Option<i64>,
) -> Result<String, Error> {
    let (text, from, to) = (str_of(text)?, str_of(from)?, str_of(to)?);
    let found = match from.as_str() {
        "" => text.chars().count() + 1,
        from => text.matches(from).count(),
    };
    let most = count.and_then(|count| usize::try_from(count).ok());
    let replaced = most.map_or(found, |most| most.min(found));
    limit.check_repeated(replaced, to.len(), state)?;
    Ok(text.replacen(&from, &to, replaced))
}

/// Indents the lines after the first, or all lines. Empty lines stay empty, unless `blank`.
fn indent(
    limit: TextLimit,
    state: &State,
    text: &Value,
    arguments: &[Value],
) -> Result<String, Error> {
    type Arguments = (Option<Value>, Option<Value>, Option<Value>, Kwargs);
    let (width, first, blank, options): Arguments = from_args(arguments)?;
    let width = argument(width, &options, "width")?.unwrap_or_else(|| Value::from(4));
    let first = argument(first, &options, "first")?.is_some_and(|first| first.is_true());
    let blank = argument(blank, &options, "blank")?.is_some_and(|blank| blank.is_true());
    options.assert_all_used()?;
    let before = match width.as_str() {
        Some(text) => text.to_string(),
        None => match width.as_usize() {
            Some(width) if width <= MAX_WIDTH => " ".repeat(width),
            _ => return Err(too_wide()),
        },
    };
    // Python has more line boundaries than `\n`, and a line after the last one.
    let text = str_of(text)?.replace("\r\n", "\n").replace(LINE_ENDS, "\n");
    limit.check_repeated(text.matches('\n').count() + 1, before.len(), state)?;
    let line = |(index, line): (usize, &str)| match index == 0 {
        true if first => format!("{before}{line}"),
        true => line.to_string(),
        false if line.is_empty() && !blank => line.to_string(),
        false => format!("{before}{line}"),
    };
    Ok(text.split('\n').enumerate().map(line).collect::<Vec<_>>().join("\n"))
}
