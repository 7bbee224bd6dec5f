//! Encoding of text.

use colm_checkpoint::panics::catch;
use tokenizers::Tokenizer;

/// The token ids of `text`. With `add_special` they include the special tokens that the tokenizer adds to every text.
///
/// # Errors
/// If the tokenizer fails or panics, for example because a regular expression takes too long. The error is one line.
pub fn encode(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
    let encoded = catch(|| {
        let encoding = tokenizer.encode_fast(text, add_special);
        encoding.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_string())
    });
    Ok(encoded.and_then(|encoded| encoded)?.get_ids().to_vec())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        let tokenizer = r#"{
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {
                "type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": false
            },
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "ab": 1}, "unk_token": "<unk>"}
        }"#;
        let tokenizer = Tokenizer::from_str(tokenizer).unwrap();
        assert_eq!(encode(&tokenizer, "ab", true), Ok(vec![1]));
        let error = encode(&tokenizer, &format!("{}c", "a".repeat(2000)), true).unwrap_err();
        assert!(error.contains("retry-limit-in-match over") && !error.contains('\n'), "{error}");
    }
}
