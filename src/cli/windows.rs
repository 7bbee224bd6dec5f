//! How a text longer than the model's context is scored: in windows that overlap.

use std::ops::Range;

use anyhow::{bail, Result};

/// A stretch of tokens the model sees at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens it sees.
    pub tokens: Range<usize>,
    /// The tokens it predicts, each from those before it in the window: the end of `tokens`.
    pub scored: Range<usize>,
}

/// Windows of at most `longest` tokens over `count` tokens, such that each token but the first is
/// predicted at most once.
///
/// Without a stride: one window, at the start. With stride s, each further window starts and ends s
/// tokens later and predicts only what is new to it, from at least `longest - s` tokens: as the
/// Hugging Face documentation measures perplexity.
pub fn windows(count: usize, longest: usize, stride: Option<usize>) -> Result<Vec<Window>> {
    if count < 2 {
        bail!("{count} tokens; expected at least 2, for every token is predicted from those before it");
    }
    if longest < 2 {
        bail!("the model's context is {longest} tokens; expected at least 2");
    }
    let end = count.min(longest);
    let mut windows = vec![Window { tokens: 0..end, scored: 1..end }];
    let Some(stride) = stride else {
        return Ok(windows);
    };
    if stride == 0 || stride >= longest {
        bail!(
            "--stride {stride}: expected 1 to {}, less than the window of {longest} tokens",
            longest - 1
        );
    }
    let mut scored = end;
    while scored < count {
        let start = scored + stride - longest;
        let end = count.min(start + longest);
        windows.push(Window { tokens: start..end, scored: scored..end });
        scored = end;
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(tokens: Range<usize>, scored: Range<usize>) -> Window {
        Window { tokens, scored }
    }

    #[test]
    fn without_a_stride_the_start_is_scored() {
        assert_eq!(windows(5, 8, None).unwrap(), [window(0..5, 1..5)]);
        assert_eq!(windows(20, 8, None).unwrap(), [window(0..8, 1..8)]);
    }

    #[test]
    fn a_stride_covers_every_token_once() {
        let expected = [window(0..8, 1..8), window(3..11, 8..11), window(6..12, 11..12)];
        assert_eq!(windows(12, 8, Some(3)).unwrap(), expected);
        for (count, longest, stride) in [(100, 16, 15), (100, 16, 1), (17, 16, 7), (16, 16, 4)] {
            let windows = windows(count, longest, Some(stride)).unwrap();
            let scored: Vec<usize> =
                windows.iter().flat_map(|window| window.scored.clone()).collect();
            assert_eq!(scored, (1..count).collect::<Vec<_>>());
            assert!(windows.iter().all(|window| window.tokens.start < window.scored.start));
            assert!(windows.iter().all(|window| window.tokens.len() <= longest));
        }
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        for (count, longest, stride, reason) in [
            (1, 8, None, "1 tokens"),
            (9, 1, None, "context is 1"),
            (9, 8, Some(0), "--stride 0"),
            (9, 8, Some(8), "1 to 7"),
        ] {
            let refused = windows(count, longest, stride).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
