//! The text of each token.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::Tokenizer;

/// The largest total text of all tokens, in bytes. Vocabularies of 256,000 tokens have less than 3 MB.
pub const MAX_TEXT: usize = 128 * 1024 * 1024;

/// The text of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenText {
    /// Bytes of text. A character may be spread over several tokens.
    Bytes(Vec<u8>),
    /// The name of a special token, which is not part of the text.
    Special(String),
    /// No token has this id.
    None,
}

impl TokenText {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Special(name) => name.len(),
            Self::None => 0,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The text of each token from 0 to `count`; None if that is more than [`MAX_TEXT`].
pub fn token_texts(tokenizer: &Tokenizer, count: usize) -> Option<Vec<TokenText>> {
    let decoder = Decoder::of(tokenizer);
    let added = tokenizer.get_added_tokens_decoder();
    let text = |id: u32| match (added.get(&id), tokenizer.id_to_token(id)) {
        (Some(token), _) if token.special => TokenText::Special(token.content.clone()),
        (Some(token), _) => TokenText::Bytes(token.content.clone().into_bytes()),
        (None, Some(token)) => TokenText::Bytes(decoder.bytes(&token)),
        (None, None) => TokenText::None,
    };
    let mut left = MAX_TEXT;
    let counted = |text: TokenText| {
        left = left.checked_sub(text.len())?;
        Some(text)
    };
    (0..count).map(|id| u32::try_from(id).map_or(TokenText::None, text)).map(counted).collect()
}

/// The decoder of a tokenizer, applied to single tokens.
#[derive(Debug, Default)]
struct Decoder {
    /// The byte of each character of a byte-level tokenizer.
    byte_level: Option<HashMap<char, u8>>,
    /// Whether `<0x0A>` is the byte 10.
    byte_fallback: bool,
    /// Replacements, as (from, to).
    replaced: Vec<(String, String)>,
    /// Prefix of tokens that continue a word: WordPiece's `##`.
    continuing: Option<String>,
    /// Suffix of tokens that end a word: `</w>`.
    end_of_word: Option<String>,
}

impl Decoder {
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut decoder = Self::default();
        // The fields of decoders are private, so their JSON is used.
        let written =
            tokenizer.get_decoder().and_then(|decoder| serde_json::to_value(decoder).ok());
        if let Some(written) = written {
            decoder.add(&written);
        }
        decoder
    }

    fn add(&mut self, written: &Value) {
        let text = |field: &str| written[field].as_str().map(str::to_string);
        match written["type"].as_str() {
            Some("Sequence") => {
                let decoders = written["decoders"].as_array();
                decoders.into_iter().flatten().for_each(|decoder| self.add(decoder));
            }
            Some("ByteLevel") => self.byte_level = Some(byte_level_characters()),
            Some("ByteFallback") => self.byte_fallback = true,
            Some("Replace") => {
                let pattern = written["pattern"]["String"].as_str();
                self.replaced.extend(pattern.map(str::to_string).zip(text("content")));
            }
            Some("Metaspace") => {
                self.replaced.extend(text("replacement").map(|mark| (mark, " ".into())))
            }
            Some("WordPiece") => self.continuing = text("prefix"),
            Some("BPEDecoder") => self.end_of_word = text("suffix"),
            _ => {}
        }
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        if let Some(bytes) = &self.byte_level {
            let bytes: Option<Vec<u8>> = token.chars().map(|c| bytes.get(&c).copied()).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        if let Some(byte) = fallback_byte(token).filter(|_| self.byte_fallback) {
            return vec![byte];
        }
        let mut text = token.to_string();
        for (from, to) in self.replaced.iter().filter(|(from, _)| !from.is_empty()) {
            text = text.replace(from, to);
        }
        if let Some(prefix) = &self.continuing {
            text = match text.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.to_string(),
                None if matches!(text.as_str(), "." | "," | "?" | "!") => text,
                None => format!(" {text}"),
            };
        }
        if let Some(word) = self.end_of_word.as_deref().and_then(|end| text.strip_suffix(end)) {
            text = format!("{word} ");
        }
        text.into_bytes()
    }
}

/// The byte of a token such as `<0x0A>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_byte)
}

/// The byte of each character in byte-level tokenizers. A printable byte is its own character; the others
/// have characters from U+0100 on, in order.
fn byte_level_characters() -> HashMap<char, u8> {
    let mut characters = HashMap::with_capacity(256);
    let mut next = '\u{100}'..;
    for byte in 0..=u8::MAX {
        let own = char::from(byte);
        let printable = matches!(own, '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}');
        let character = if printable { Some(own) } else { next.next() };
        characters.extend(character.map(|character| (character, byte)));
    }
    characters
}
