//! How much longer a tokenizer's normalizer or decoder can make a text.

use serde_json::Value;

/// The most that a normalizer or a decoder may make of a byte, in bytes.
pub const MOST: f64 = 100.0;

/// How many times as long the replacements in `component`, the JSON of a normalizer or a decoder, can make a text.
///
/// Other parts change a text by small factors, such as 11 for the longest decomposition in Unicode, and do so once
/// however often they are repeated.
pub fn growth(component: &Value) -> f64 {
    let bytes = |text: &Value| text.as_str().map_or(0, str::len) as f64;
    match component["type"].as_str() {
        Some("Sequence") => ["normalizers", "decoders"]
            .iter()
            .filter_map(|field| component[field].as_array())
            .flatten()
            .map(growth)
            .product(),
        Some("Replace") => {
            let content = bytes(&component["content"]);
            match &component["pattern"]["String"] {
                Value::String(pattern) => (content / pattern.len().max(1) as f64).max(1.0),
                // A regular expression can match between all bytes.
                _ => content + 1.0,
            }
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replacements_multiply() {
        let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let space = replace(json!({"String": " "}), "\u{2581}");
        let quotes = replace(json!({"String": "``"}), "\"");
        let spaces = replace(json!({"Regex": " {2,}"}), "\u{2581}");
        let sequence =
            json!({"type": "Sequence", "normalizers": [space, quotes, spaces, {"type": "NFKC"}]});
        assert_eq!(growth(&sequence), 3.0 * 1.0 * 4.0);
        let nested = json!({"type": "Sequence", "decoders": [sequence.clone(), sequence]});
        assert_eq!(growth(&nested), 144.0);
        assert_eq!(growth(&Value::Null), 1.0);
    }
}
