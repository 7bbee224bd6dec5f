//! The text of an answer, token by token.

use std::collections::VecDeque;

use super::decoder::TextDecoder;
use super::stop::{Certain, StopMatcher};

/// Makes the text of an answer of its tokens' bytes, up to the earliest stop string.
///
/// `T` is whatever is known of a token. It comes out with the text in which the token begins.
#[derive(Debug)]
pub struct AnswerText<T> {
    decoder: TextDecoder,
    stops: StopMatcher,
    /// Characters decoded and handed out so far.
    decoded: usize,
    handed_out: usize,
    /// Tokens that have not come out, each with the character it begins at.
    waiting: VecDeque<(usize, T)>,
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct TextPiece<T> {
    /// Its text.
    pub text: String,
    /// The tokens that begin in it, each with where in the whole answer it begins, in characters.
    pub tokens: Vec<(usize, T)>,
    /// Whether a stop string follows: there are no more pieces.
    pub stopped: bool,
}

impl<T> AnswerText<T> {
    /// An answer that ends before the earliest of `stops`.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            decoder: TextDecoder::default(),
            stops: StopMatcher::new(stops),
            decoded: 0,
            handed_out: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Adds a token that says `bytes`.
    pub fn push(&mut self, bytes: &[u8], token: T) -> TextPiece<T> {
        // After half a character that stays one, the next begins.
        let after_half = self.decoder.breaks_off_before(bytes);
        self.waiting.push_back((self.decoded + usize::from(after_half), token));
        let text = self.decoder.push(bytes);
        self.decoded += text.chars().count();
        let certain = self.stops.push(&text);
        self.piece(certain)
    }

    /// How many characters there are so far.
    pub fn characters(&self) -> usize {
        self.decoded
    }

    /// The last piece.
    pub fn finish(&mut self) -> TextPiece<T> {
        let text = self.decoder.finish();
        let mut certain = self.stops.push(&text);
        if !certain.stopped {
            let rest = self.stops.finish();
            certain.text += &rest.text;
            certain.stopped = rest.stopped;
        }
        let mut piece = self.piece(certain);
        if !piece.stopped {
            piece.tokens.extend(self.waiting.drain(..));
        }
        piece
    }

    fn piece(&mut self, certain: Certain) -> TextPiece<T> {
        self.handed_out += certain.text.chars().count();
        let begun = self.waiting.partition_point(|(begins, _)| *begins < self.handed_out);
        let tokens = self.waiting.drain(..begun).collect();
        TextPiece { text: certain.text, tokens, stopped: certain.stopped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_with_the_text_they_begin_in() {
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
    fn tokens_of_a_stop_do_not_come_out() {
        let mut answer = AnswerText::new(vec!["stop".into()]);
        answer.push(b"a ", 1);
        assert_eq!(answer.push(b"st", 2).tokens, []);
        let piece = answer.push(b"op", 3);
        assert_eq!(piece, TextPiece { text: String::new(), tokens: vec![], stopped: true });
    }

    #[test]
    fn a_token_without_text_comes_out_at_the_end() {
        let mut answer = AnswerText::new(Vec::new());
        answer.push(b"a", 1);
        assert_eq!(answer.push(b"", 2).tokens, []);
        assert_eq!(answer.finish().tokens, [(1, 2)]);
    }

    #[test]
    fn a_token_after_half_a_character_begins_behind_it() {
        let mut answer = AnswerText::new(Vec::new());
        answer.push(&[0xc3], 1);
        let piece = answer.push(b"a", 2);
        assert_eq!((piece.text.as_str(), piece.tokens), ("\u{fffd}a", vec![(0, 1), (1, 2)]));
        answer.push(&[0xc3], 3);
        let piece = answer.push(&[0xa9], 4);
        assert_eq!((piece.text.as_str(), piece.tokens), ("é", vec![(2, 3), (2, 4)]));
    }

    #[test]
    fn half_a_character_at_the_end_is_shown_as_such() {
        let mut answer = AnswerText::new(Vec::new());
        assert_eq!(answer.push(&[0xc3], 1).text, "");
        let piece = answer.finish();
        assert_eq!((piece.text.as_str(), piece.tokens), ("\u{fffd}", vec![(0, 1)]));
    }
}
