//! Stop strings: an answer ends before the earliest of them.

/// Looks for stop strings in a text that comes piece by piece.
///
/// The earliest stop is the one that begins first, however the text was cut into pieces. Text that
/// may be the beginning of a stop is held back until that is decided.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text that is not certain yet.
    held: String,
}

/// What is certain after a piece.
#[derive(Debug, PartialEq, Eq)]
pub struct Certain {
    /// Text before any stop.
    pub text: String,
    /// Whether a stop follows it.
    pub stopped: bool,
}

impl StopMatcher {
    /// Looks for `stops`; empty ones never match.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new() }
    }

    /// Adds a piece.
    pub fn push(&mut self, text: &str) -> Certain {
        self.held.push_str(text);
        let stop = self.earliest_stop();
        let candidate = self.earliest_beginning();
        match (stop, candidate) {
            // Only what begins before a stop can still be an earlier one.
            (Some(stop), candidate) if candidate.is_none_or(|candidate| stop <= candidate) => {
                self.stop_at(stop)
            }
            (_, candidate) => self.release(candidate.unwrap_or(self.held.len())),
        }
    }

    /// The text has ended: what was held back is no beginning any more.
    pub fn finish(&mut self) -> Certain {
        match self.earliest_stop() {
            Some(stop) => self.stop_at(stop),
            None => self.release(self.held.len()),
        }
    }

    fn stop_at(&mut self, at: usize) -> Certain {
        let certain = Certain { stopped: true, ..self.release(at) };
        self.held.clear();
        certain
    }

    fn release(&mut self, up_to: usize) -> Certain {
        Certain { text: self.held.drain(..up_to).collect(), stopped: false }
    }

    /// Where the first stop begins.
    fn earliest_stop(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min()
    }

    /// Where the first stop may begin whose end has not come yet.
    fn earliest_beginning(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| beginning_at_the_end(&self.held, stop)).min()
    }
}

/// Where the longest end of `text` begins that is a beginning of `stop`, but not all of it.
fn beginning_at_the_end(text: &str, stop: &str) -> Option<usize> {
    let first = text.len().saturating_sub(stop.len() - 1);
    (first..text.len()).find(|&at| {
        text.is_char_boundary(at) && stop.as_bytes().starts_with(&text.as_bytes()[at..])
    })
}

#[cfg(test)]
mod tests {
    use rand::{rngs::StdRng, Rng, SeedableRng};

    use super::*;

    /// The text of `pieces` and whether it was stopped.
    fn matched(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let certain = matcher.push(piece);
            text += &certain.text;
            if certain.stopped {
                return (text, true);
            }
        }
        let certain = matcher.finish();
        (text + &certain.text, certain.stopped)
    }

    #[test]
    fn text_ends_before_the_stop() {
        assert_eq!(matched(&["18"], &["3 ", "18", " 71"]), ("3 ".into(), true));
        assert_eq!(matched(&["18"], &["3 1", "8 71"]), ("3 ".into(), true));
        assert_eq!(matched(&["8 7"], &["3 18 71"]), ("3 1".into(), true));
        assert_eq!(matched(&["93"], &["71 9", "3"]), ("71 ".into(), true));
        assert_eq!(matched(&["99"], &["71 9", "3"]), ("71 93".into(), false));
        assert_eq!(matched(&["99"], &["71 9"]), ("71 9".into(), false));
        assert_eq!(matched(&[], &["71"]), ("71".into(), false));
    }

    #[test]
    fn of_overlapping_stops_the_one_that_begins_first_counts() {
        assert_eq!(matched(&["b", "abc"], &["a", "b", "c"]), (String::new(), true));
        assert_eq!(matched(&["b", "abc"], &["a", "b", "d"]), ("a".into(), true));
        assert_eq!(matched(&["b", "abc"], &["a", "b"]), ("a".into(), true));
    }

    #[test]
    fn text_that_is_no_beginning_of_a_stop_is_not_held_back() {
        let mut matcher = StopMatcher::new(vec!["\n\n".into()]);
        assert_eq!(matcher.push("a\nb").text, "a\nb");
        assert_eq!(matcher.push("c\n").text, "c");
        assert_eq!(matcher.push("d").text, "\nd");
    }

    /// Against the definition: the whole text, cut at the smallest position at which a stop is found.
    #[test]
    fn the_result_does_not_depend_on_the_pieces() {
        let mut rng = StdRng::seed_from_u64(11);
        let alphabet = ["a", "b", "é", "🦊", " "];
        let mut word = |longest: usize| -> String {
            let length = rng.random_range(0..=longest);
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
