//! serde's messages without Rust type names.

/// A message of serde with types in words: `a number` instead of `f64`.
pub fn in_words(message: &str) -> String {
    let Some((begin, end)) = message.rsplit_once(EXPECTED) else {
        return message.to_owned();
    };
    let (expected, place) = match end.split_once(" at line ") {
        Some((expected, place)) => (expected, format!(" at line {place}")),
        None => (end, String::new()),
    };
    let begin = match begin {
        "invalid type: sequence" => "invalid type: list",
        begin => begin,
    };
    let expected = words_for(expected).unwrap_or_else(|| expected.to_owned());
    format!("{begin}{EXPECTED}{expected}{place}")
}

const EXPECTED: &str = ", expected ";

fn words_for(expected: &str) -> Option<String> {
    Some(match expected {
        "f32" | "f64" => "a number".into(),
        "u64" | "usize" => "a whole number of at least 0".into(),
        "u8" => whole_numbers(0, u8::MAX.into()),
        "u16" => whole_numbers(0, u16::MAX.into()),
        "u32" => whole_numbers(0, u32::MAX.into()),
        "i8" => whole_numbers(i8::MIN.into(), i8::MAX.into()),
        "i16" => whole_numbers(i16::MIN.into(), i16::MAX.into()),
        "i32" => whole_numbers(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => "a whole number".into(),
        "unit" => "null".into(),
        "a sequence" => "a list".into(),
        // `struct NAME`, or `struct NAME with N elements` where a list was read.
        _ if expected.starts_with("struct ") || expected.contains("tagged enum ") => "a map".into(),
        _ => return None,
    })
}

fn whole_numbers(least: i64, most: i64) -> String {
    format!("a whole number from {least} to {most}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_types_become_words() {
        let cases = [
            (
                "invalid type: string \"8\", expected f64 at line 2 column 5",
                "a number at line 2 column 5",
            ),
            (
                "invalid type: string \", expected f64\", expected usize",
                "a whole number of at least 0",
            ),
            ("invalid value: integer `-1`, expected u32", "a whole number from 0 to 4294967295"),
            (
                "invalid type: null, expected struct RawConfig at line 1 column 4",
                "a map at line 1 column 4",
            ),
            ("invalid length 0, expected struct Read with 2 elements", "a map"),
            ("invalid type: integer `1`, expected internally tagged enum Format", "a map"),
            ("invalid type: map, expected a sequence", "a list"),
            ("invalid type: sequence, expected i64", "a whole number"),
        ];
        for (message, words) in cases {
            let (begin, _) = message.rsplit_once(EXPECTED).unwrap();
            let begin = begin.replace("sequence", "list");
            assert_eq!(in_words(message), format!("{begin}{EXPECTED}{words}"));
        }
    }

    #[test]
    fn other_messages_are_unchanged() {
        for message in [
            "missing field `f64`",
            "invalid type: null, expected a string",
            "`x, expected f64` occurs twice",
        ] {
            assert_eq!(in_words(message), message);
        }
    }
}
