//! Decodes UTF-8 in which a character may be split across tokens.

use std::mem::take;

/// An incremental UTF-8 decoder. The concatenated output equals [`String::from_utf8_lossy`] of all bytes.
#[derive(Debug, Default)]
pub struct TextDecoder {
    /// The first bytes of an incomplete character.
    incomplete: Vec<u8>,
}

impl TextDecoder {
    /// Adds bytes and returns the characters that are now complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.incomplete.extend_from_slice(bytes);
        let bytes = take(&mut self.incomplete);
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_incomplete(invalid) {
                self.incomplete = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// Whether there is an incomplete character that `bytes` do not continue.
    pub fn is_interrupted_by(&self, bytes: &[u8]) -> bool {
        let continues = |byte: &u8| (0x80..0xc0).contains(byte);
        !self.incomplete.is_empty() && !bytes.first().is_none_or(continues)
    }

    /// Returns a replacement character if the last character is incomplete.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&take(&mut self.incomplete)).into_owned()
    }
}

/// Whether `bytes` are the first bytes of a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use rand::{rngs::StdRng, Rng, SeedableRng};

    use super::*;

    #[test]
    fn pieces_decode_like_the_whole() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..2000 {
            let mut bytes = Vec::new();
            for _ in 0..rng.random_range(0..12) {
                match rng.random_range(0..4) {
                    0 => bytes.push(rng.random::<u8>()),
                    1 => bytes.extend("é".as_bytes()),
                    2 => bytes.extend("🦊".as_bytes()),
                    _ => bytes.extend("a\u{fffd}".as_bytes()),
                }
            }
            let mut decoder = TextDecoder::default();
            let mut text = String::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rng.random_range(1..=rest.len()));
                text += &decoder.push(piece);
                rest = after;
            }
            text += &decoder.finish();
            assert_eq!(text, String::from_utf8_lossy(&bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_character_is_returned_with_its_last_byte() {
        let mut decoder = TextDecoder::default();
        assert_eq!(decoder.push(&[b'a', 0xf0, 0x9f]), "a");
        assert_eq!(decoder.push(&[0xa6]), "");
        assert_eq!(decoder.push(&[0x8a, b'b']), "🦊b");
        assert_eq!(decoder.push(&[0xff, b'c']), "\u{fffd}c");
        assert_eq!(decoder.push(&[0xc3]), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }
}
