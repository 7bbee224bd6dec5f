//! Builds the text of an answer from its tokens.

use std::collections::VecDeque;

use super::decoder::TextDecoder;
use super::stop::{Released, StopMatcher};

/// Builds the text of an answer from the bytes of its tokens, up to the earliest stop string.
///
/// `T` is the data of a token. It is returned with the piece of text in which the token begins.
#[derive(Debug)]
pub struct AnswerText<T> {
    decoder: TextDecoder,
    stops: StopMatcher,
    /// Characters decoded so far.
    decoded: usize,
    /// Characters returned so far.
    returned: usize,
    /// Tokens that have not been returned, each with the offset at which it begins, in characters.
    pending: VecDeque<(usize, T)>,
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct TextPiece<T> {
    /// The text.
    pub text: String,
    /// The tokens that begin in the piece, each with its offset in the answer, in characters.
    pub tokens: Vec<(usize, T)>,
    /// Whether a stop string follows. Then this is the last piece.
    pub stopped: bool,
}

impl<T> AnswerText<T> {
    /// An answer that ends before the earliest of `stops`.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            decoder: TextDecoder::default(),
            stops: StopMatcher::new(stops),
            decoded: 0,
            returned: 0,
            pending: VecDeque::new(),
        }
    }

    /// Adds a token with these bytes.
    pub fn push(&mut self, bytes: &[u8], token: T) -> TextPiece<T> {
        // If `bytes` do not complete a partial character, it becomes a replacement character before this token.
        let interrupted = self.decoder.is_interrupted_by(bytes);
        self.pending.push_back((self.decoded + usize::from(interrupted), token));
        let text = self.decoder.push(bytes);
        self.decoded += text.chars().count();
        let released = self.stops.push(&text);
        self.piece(released)
    }

    /// The number of characters so far.
    pub fn characters(&self) -> usize {
        self.decoded
    }

    /// Ends the answer and returns the last piece.
    pub fn finish(&mut self) -> TextPiece<T> {
        let text = self.decoder.finish();
        let mut released = self.stops.push(&text);
        if !released.stopped {
            let rest = self.stops.finish();
            released.text += &rest.text;
            released.stopped = rest.stopped;
        }
        let mut piece = self.piece(released);
        if !piece.stopped {
            piece.tokens.extend(self.pending.drain(..));
        }
        piece
    }

    fn piece(&mut self, released: Released) -> TextPiece<T> {
        self.returned += released.text.chars().count();
        let begun = self.pending.partition_point(|(offset, _)| *offset < self.returned);
        let tokens = self.pending.drain(..begun).collect();
        TextPiece { text: released.text, tokens, stopped: released.stopped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_returned_with_the_text_in_which_they_begin() {
        let mut answer = AnswerText::new(vec!["stop".into()]);
        let piece = answer.push(b"a s", 1);
        assert_eq!((piece.text.as_str(), piece.tokens), ("a ", vec![(0, 1)]));
        let piece = answer.push(b"to", 2);
        assert_eq!((piece.text.as_str(), piece.tokens.len()), ("", 0));
        let piece = answer.push(b"re", 3);
        assert_eq!((piece.text.as_str(), piece.tokens), ("store", vec![(3, 2), (5, 3)]));
        assert!(!answer.finish().stopped);
    }

    #[test]
    fn tokens_of_a_stop_string_are_not_returned() {
        let mut answer = AnswerText::new(vec!["stop".into()]);
        answer.push(b"a ", 1);
        assert_eq!(answer.push(b"st", 2).tokens, []);
        let piece = answer.push(b"op", 3);
        assert_eq!(piece, TextPiece { text: String::new(), tokens: vec![], stopped: true });
    }

    #[test]
    fn a_token_without_text_is_returned_at_the_end() {
        let mut answer = AnswerText::new(Vec::new());
        answer.push(b"a", 1);
        assert_eq!(answer.push(b"", 2).tokens, []);
        assert_eq!(answer.finish().tokens, [(1, 2)]);
    }

    #[test]
    fn a_token_after_a_partial_character_begins_after_it() {
        let mut answer = AnswerText::new(Vec::new());
        answer.push(&[0xc3], 1);
        let piece = answer.push(b"a", 2);
        assert_eq!((piece.text.as_str(), piece.tokens), ("\u{fffd}a", vec![(0, 1), (1, 2)]));
        answer.push(&[0xc3], 3);
        let piece = answer.push(&[0xa9], 4);
        assert_eq!((piece.text.as_str(), piece.tokens), ("é", vec![(2, 3), (2, 4)]));
    }

    #[test]
    fn a_partial_character_at_the_end_becomes_a_replacement_character() {
        let mut answer = AnswerText::new(Vec::new());
        assert_eq!(answer.push(&[0xc3], 1).text, "");
        let piece = answer.finish();
        assert_eq!((piece.text.as_str(), piece.tokens), ("\u{fffd}", vec![(0, 1)]));
    }
}
