//! Methods for upper and lower case.

/// `text.title()`.
pub fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            titled.extend(c.to_lowercase())
        } else {
            titled.push_str(&titlecase(c))
        }
        in_word = is_cased(c);
    }
    titled
}

/// `text.capitalize()`.
pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(titlecase).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

/// `text.istitle()`: whether upper-case letters begin all words and occur nowhere else.
pub fn is_title(text: &str) -> bool {
    let (mut any, mut in_word) = (false, false);
    for c in text.chars() {
        let begins = c.is_uppercase() || is_digraph_title(c);
        if (begins && in_word) || (c.is_lowercase() && !in_word) {
            return false;
        }
        in_word = is_cased(c);
        any |= in_word;
    }
    any
}

/// `text.casefold()`.
pub fn casefold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'ı' => folded.push(c),
            'İ' => folded.push_str("i\u{307}"),
            c => c.to_uppercase().for_each(|upper| folded.extend(upper.to_lowercase())),
        }
    }
    folded
}

/// `text.swapcase()`.
pub fn swapcase(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_lowercase() {
            swapped.extend(c.to_uppercase())
        } else {
            swapped.extend(c.to_lowercase())
        }
    }
    swapped
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_digraph_title(c)
}

/// Whether a character is a digraph in title case.
fn is_digraph_title(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

/// The title case of a character; of a digraph only the first letter is upper case.
fn titlecase(c: char) -> String {
    match c {
        'Ǆ'..='ǆ' => 'ǅ'.into(),
        'Ǉ'..='ǉ' => 'ǈ'.into(),
        'Ǌ'..='ǌ' => 'ǋ'.into(),
        'Ǳ'..='ǳ' => 'ǲ'.into(),
        'ŉ' => c.to_uppercase().collect(),
        c => {
            let mut upper = c.to_uppercase();
            upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}
