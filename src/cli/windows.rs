//! Splits a text that is longer than the model's context into overlapping windows.

use std::ops::Range;

use anyhow::{bail, Result};

/// A range of tokens that the model processes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens of the window.
    pub tokens: Range<usize>,
    /// The tokens that are scored, at the end of `tokens`.
    pub scored: Range<usize>,
}

/// Windows of at most `context` tokens over `count` tokens. Each token except the first is scored at most once.
///
/// Without a stride, there is one window at the start. With stride s, each window starts s tokens after the previous
/// one and scores only its new tokens, each predicted from at least `context - s` tokens. This is the sliding window of
/// the Hugging Face documentation of perplexity.
pub fn windows(count: usize, context: usize, stride: Option<usize>) -> Result<Vec<Window>> {
    if count < 2 {
        let tokens = if count == 1 { "token" } else { "tokens" };
        bail!("the text has {count} {tokens}: expected at least 2");
    }
    if context < 2 {
        bail!("the model's context is {context} tokens: expected at least 2");
    }
    let end = count.min(context);
    let mut windows = vec![Window { tokens: 0..end, scored: 1..end }];
    let Some(stride) = stride else {
        return Ok(windows);
    };
    if stride == 0 || stride >= context {
        bail!(
            "--stride {stride}: expected 1 to {}, less than the window of {context} tokens",
            context - 1
        );
    }
    let mut scored = end;
    while scored < count {
        let start = scored + stride - context;
        let end = count.min(start + context);
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
        for (count, context, stride) in [(100, 16, 15), (100, 16, 1), (17, 16, 7), (16, 16, 4)] {
            let windows = windows(count, context, Some(stride)).unwrap();
            let scored: Vec<usize> =
                windows.iter().flat_map(|window| window.scored.clone()).collect();
            assert_eq!(scored, (1..count).collect::<Vec<_>>());
            assert!(windows.iter().all(|window| window.tokens.start < window.scored.start));
            assert!(windows.iter().all(|window| window.tokens.len() <= context));
        }
    }

    #[test]
    fn texts_and_strides_that_do_not_fit_are_refused() {
        for (count, context, stride, reason) in [
            (1, 8, None, "1 token"),
            (9, 1, None, "context is 1"),
            (9, 8, Some(0), "--stride 0"),
            (9, 8, Some(8), "1 to 7"),
        ] {
            let refused = windows(count, context, stride).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
