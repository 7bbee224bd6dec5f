//! Stop strings: an answer ends before the earliest of them.

/// Finds stop strings in streamed text.
///
/// The text ends before the stop string that begins first, regardless of how the text is split into pieces. Text that
/// may be the beginning of a stop string is held back until this is known.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text that is held back.
    held: String,
}

/// The text released after a piece.
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    /// Text before any stop string.
    pub text: String,
    /// Whether a stop string follows.
    pub stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`. Empty strings never match.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new() }
    }

    /// Adds a piece.
    pub fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        let stop = self.earliest_stop();
        let candidate = self.earliest_partial_match();
        match (stop, candidate) {
            // A partial match before the stop string may still become an earlier one.
            (Some(stop), candidate) if candidate.is_none_or(|candidate| stop <= candidate) => {
                self.stop_at(stop)
            }
            (_, candidate) => self.release(candidate.unwrap_or(self.held.len())),
        }
    }

    /// Ends the text and releases what was held back.
    pub fn finish(&mut self) -> Released {
        match self.earliest_stop() {
            Some(stop) => self.stop_at(stop),
            None => self.release(self.held.len()),
        }
    }

    fn stop_at(&mut self, at: usize) -> Released {
        let released = Released { stopped: true, ..self.release(at) };
        self.held.clear();
        released
    }

    fn release(&mut self, up_to: usize) -> Released {
        Released { text: self.held.drain(..up_to).collect(), stopped: false }
    }

    /// The position of the first stop string.
    fn earliest_stop(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min()
    }

    /// The position of the first partial match at the end of the text.
    fn earliest_partial_match(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| partial_match_at_end(&self.held, stop)).min()
    }
}

/// The position of the longest suffix of `text` that is a proper prefix of `stop`.
fn partial_match_at_end(text: &str, stop: &str) -> Option<usize> {
    let first = text.len().saturating_sub(stop.len() - 1);
    (first..text.len()).find(|&at| {
        text.is_char_boundary(at) && stop.as_bytes().starts_with(&text.as_bytes()[at..])
    })
}

#[cfg(test)]
mod tests {
    use rand::{rngs::StdRng, Rng, SeedableRng};

    use super::*;

    /// The text of `pieces`, and whether a stop string was found.
    fn matched(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let released = matcher.push(piece);
            text += &released.text;
            if released.stopped {
                return (text, true);
            }
        }
        let released = matcher.finish();
        (text + &released.text, released.stopped)
    }

    #[test]
    fn text_ends_before_the_stop_string() {
        assert_eq!(matched(&["18"], &["3 ", "18", " 71"]), ("3 ".into(), true));
        assert_eq!(matched(&["18"], &["3 1", "8 71"]), ("3 ".into(), true));
        assert_eq!(matched(&["8 7"], &["3 18 71"]), ("3 1".into(), true));
        assert_eq!(matched(&["93"], &["71 9", "3"]), ("71 ".into(), true));
        assert_eq!(matched(&["99"], &["71 9", "3"]), ("71 93".into(), false));
        assert_eq!(matched(&["99"], &["71 9"]), ("71 9".into(), false));
        assert_eq!(matched(&[], &["71"]), ("71".into(), false));
    }

    #[test]
    fn the_stop_string_that_begins_first_wins() {
        assert_eq!(matched(&["b", "abc"], &["a", "b", "c"]), (String::new(), true));
        assert_eq!(matched(&["b", "abc"], &["a", "b", "d"]), ("a".into(), true));
        assert_eq!(matched(&["b", "abc"], &["a", "b"]), ("a".into(), true));
    }

    #[test]
    fn only_partial_matches_are_held_back() {
        let mut matcher = StopMatcher::new(vec!["\n\n".into()]);
        assert_eq!(matcher.push("a\nb").text, "a\nb");
        assert_eq!(matcher.push("c\n").text, "c");
        assert_eq!(matcher.push("d").text, "\nd");
    }

    /// Compares with the definition: the whole text, cut at the first position at which a stop string is found.
    #[test]
    fn the_result_does_not_depend_on_the_pieces() {
        let mut rng = StdRng::seed_from_u64(11);
        let alphabet = ["a", "b", "é", "🦊", " "];
        let mut word = |max: usize| -> String {
            let length = rng.random_range(0..=max);
            (0..length).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect()
        };
        let cases: Vec<(Vec<String>, Vec<String>)> = (0..5000)
            .map(|_| ((0..3).map(|_| word(4)).collect(), (0..8).map(|_| word(3)).collect()))
            .collect();
        for (stops, pieces) in cases {
            let whole = pieces.concat();
            let found = stops.iter().filter(|stop| !stop.is_empty());
            let found = found.filter_map(|stop| whole.find(stop.as_str())).min();
            let expected = (whole[..found.unwrap_or(whole.len())].to_string(), found.is_some());
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(matched(&stops, &pieces), expected, "{stops:?} in {pieces:?}");
        }
    }
}
