//! Limits of one request.

use super::error::ApiError;

/// The most answers to one request: OpenAI's limit.
pub const MAX_CHOICES: u32 = 128;

/// The most alternative tokens per position whose log-probabilities are returned: OpenAI's limit.
pub const MAX_TOP_LOGPROBS: u32 = 20;

/// All answers to one request together may have at most this many times the tokens of the model's context.
pub const MAX_CONTEXTS: usize = 16;

/// The number of answers to `prompts` prompts with `n` answers each, of at most `max_tokens` tokens. `context` is the
/// longest sequence, in tokens. Fails if the request asks for too many answers or tokens.
pub fn check_choices(
    n: u32,
    prompts: usize,
    max_tokens: Option<u32>,
    context: usize,
) -> Result<usize, ApiError> {
    let choices = (n as usize).saturating_mul(prompts);
    if choices == 0 || choices > MAX_CHOICES as usize {
        let message = match prompts {
            1 => format!("n is {n}: expected 1 to {MAX_CHOICES}"),
            _ => format!(
                "n is {n} for {prompts} prompts: expected 1 to {MAX_CHOICES} answers in total"
            ),
        };
        return Err(ApiError::invalid_value("n", message));
    }
    let tokens = max_tokens.map_or(context, |tokens| context.min(tokens as usize));
    let limit = MAX_CONTEXTS * context;
    if choices * tokens > limit {
        let message = format!(
            "{choices} answers of up to {tokens} tokens: expected at most {limit} tokens in total; reduce n or \
             max_tokens"
        );
        return Err(ApiError::invalid_value("n", message));
    }
    Ok(choices)
}

/// The largest body, in bytes, for a model whose longest sequence is `context` tokens.
pub fn max_body_bytes(context: usize) -> usize {
    const BASE: usize = 2 * 1024 * 1024;
    const PER_TOKEN: usize = 64;
    BASE + context.saturating_mul(PER_TOKEN)
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
            let error = check_choices(n, prompts, max_tokens, 1024).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("n"), "{n} {prompts} {max_tokens:?}");
        }
    }
}
