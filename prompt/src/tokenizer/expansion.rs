//! The factor by which a normalizer or decoder can lengthen a text.

use serde_json::Value;

/// The largest factor that is allowed.
pub const MAX_EXPANSION: f64 = 100.0;

/// The largest factor by which the replacements in `component` can lengthen a text. `component` is the
/// JSON of a normalizer or decoder.
///
/// Other components have small factors (the longest decomposition in Unicode has 11), and repeating
/// them has no further effect.
pub fn expansion(component: &Value) -> f64 {
    let bytes = |text: &Value| text.as_str().map_or(0, str::len) as f64;
    match component["type"].as_str() {
        Some("Sequence") => ["normalizers", "decoders"]
            .iter()
            .filter_map(|field| component[field].as_array())
            .flatten()
            .map(expansion)
            .product(),
        Some("Replace") => {
            let content = bytes(&component["content"]);
            match &component["pattern"]["String"] {
                Value::String(pattern) => (content / pattern.len().max(1) as f64).max(1.0),
                // A regular expression can match between any two bytes.
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
        assert_eq!(expansion(&sequence), 3.0 * 1.0 * 4.0);
        let nested = json!({"type": "Sequence", "decoders": [sequence.clone(), sequence]});
        assert_eq!(expansion(&nested), 144.0);
        assert_eq!(expansion(&Value::Null), 1.0);
    }
}
