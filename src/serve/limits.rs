//! How much one request may ask for.

use super::error::Refusal;

/// The most answers to one request: OpenAI's limit.
pub const MOST_CHOICES: u32 = 128;

/// The most tokens whose log-probabilities are told beside the chosen one's: OpenAI's limit.
pub const MOST_TOP_LOGPROBS: u32 = 20;

/// All answers to one request together may have the tokens of so many contexts.
pub const MOST_CONTEXTS: usize = 16;

/// The number of answers to `prompts` prompts, `n` to each of at most `max_tokens` tokens, of a model with
/// a context of `longest` tokens.
pub fn check_choices(
    n: u32,
    prompts: usize,
    max_tokens: Option<u32>,
    longest: usize,
) -> Result<usize, Refusal> {
    let choices = (n as usize).saturating_mul(prompts);
    if choices == 0 || choices > MOST_CHOICES as usize {
        let message = match prompts {
            1 => format!("n is {n}: expected 1 to {MOST_CHOICES}"),
            _ => format!(
                "n is {n} for {prompts} prompts: expected 1 to {MOST_CHOICES} answers in all"
            ),
        };
        return Err(Refusal::value("n", message));
    }
    let tokens = max_tokens.map_or(longest, |tokens| longest.min(tokens as usize));
    let most = MOST_CONTEXTS * longest;
    if choices * tokens > most {
        let message = format!(
            "{choices} answers of up to {tokens} tokens: expected at most {most} tokens in all; lower n or \
             max_tokens"
        );
        return Err(Refusal::value("n", message));
    }
    Ok(choices)
}

/// The longest body: so many bytes for any model, and more for a long context.
pub fn most_body_bytes(longest: usize) -> usize {
    const ANY: usize = 2 * 1024 * 1024;
    const PER_TOKEN: usize = 64;
    ANY + longest.saturating_mul(PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_in_number_and_tokens() {
        assert_eq!(check_choices(128, 1, Some(10), 1024).unwrap(), 128);
        assert_eq!(check_choices(2, 3, Some(10), 1024).unwrap(), 6);
        assert_eq!(check_choices(16, 1, None, 1024).unwrap(), 16);
        for (n, prompts, max_tokens) in
            [(0, 1, None), (129, 1, Some(1)), (2, 65, Some(1)), (17, 1, None), (128, 1, Some(129))]
        {
            let refusal = check_choices(n, prompts, max_tokens, 1024).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some("n"), "{n} {prompts} {max_tokens:?}");
        }
    }
}
