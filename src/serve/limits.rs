//! Limits of one request.

use std::time::Duration;

use super::error::ApiError;
use super::options::ServeLimits;
use crate::Request;

/// The most answers to one request: OpenAI's limit.
pub const MAX_CHOICES: u32 = 128;

/// The most alternative tokens per position whose log-probabilities are returned: OpenAI's limit.
pub const MAX_TOP_LOGPROBS: u32 = 20;

/// All answers to one request together may have at most this many times the tokens of the model's context.
pub const MAX_CONTEXTS: usize = 16;

/// All repeated prompts of a request together may have at most this many times the log-probabilities of the model's
/// context: one prompt of any length with the most alternatives.
pub const MAX_ECHOED_CONTEXTS: usize = 1 + MAX_TOP_LOGPROBS as usize;

/// Fails if `answers` answers to prompts of `tokens` tokens together, each of which repeats its prompt, with the
/// log-probabilities of `top` alternatives per position, would be too large. `context` is the longest sequence.
pub fn check_echo(
    answers: usize,
    tokens: usize,
    top: usize,
    context: usize,
) -> Result<(), ApiError> {
    let found = answers.saturating_mul(tokens).saturating_mul(1 + top);
    let limit = MAX_ECHOED_CONTEXTS.saturating_mul(context);
    if found <= limit {
        return Ok(());
    }
    let message = format!(
        "echo would return {found} prompt tokens and alternatives: expected at most {limit}; reduce n, best_of or \
         logprobs, or send fewer prompts"
    );
    Err(ApiError::invalid_value("echo", message))
}

/// What one request may ask for.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// Between two pieces of a body.
    pub body_timeout: Duration,
    /// The longest sequence, in tokens.
    context: usize,
    max_prompt_tokens: Option<usize>,
    max_output_tokens: Option<usize>,
}

impl RequestLimits {
    /// From the limits of a server whose longest sequence is `context` tokens.
    pub fn new(limits: &ServeLimits, context: usize) -> Self {
        Self {
            max_body_bytes: limits.max_body_bytes.unwrap_or_else(|| max_body_bytes(context)),
            body_timeout: limits.body_timeout,
            context,
            max_prompt_tokens: limits.max_prompt_tokens,
            max_output_tokens: limits.max_output_tokens,
        }
    }

    /// The number of answers to `prompts` prompts with `n` answers each, of at most `max_tokens` tokens. Fails if the
    /// request asks for too many answers or tokens; the error names `field`, where `n` comes from.
    pub fn check_choices(
        &self,
        field: &str,
        n: u32,
        prompts: usize,
        max_tokens: Option<u32>,
    ) -> Result<usize, ApiError> {
        let choices = (n as usize).saturating_mul(prompts);
        if choices == 0 || choices > MAX_CHOICES as usize {
            let message = match prompts {
                1 => format!("{field} is {n}: expected 1 to {MAX_CHOICES}"),
                _ => format!(
                    "{prompts} prompts with {n} answers each: expected 1 to {MAX_CHOICES} answers in total"
                ),
            };
            return Err(ApiError::invalid_value(field, message));
        }
        let max_tokens = max_tokens.map(|tokens| tokens as usize).or(self.max_output_tokens);
        let tokens = max_tokens.unwrap_or(self.context).min(self.context);
        let limit = MAX_CONTEXTS * self.context;
        if choices * tokens > limit {
            let message = format!(
                "{choices} answers of up to {tokens} tokens: expected at most {limit} tokens in total; reduce \
                 {field} or the maximum number of tokens"
            );
            return Err(ApiError::invalid_value(field, message));
        }
        Ok(choices)
    }

    /// `tokens`, the default of an endpoint for the tokens of an answer, or what the server allows if that is less.
    pub fn default_tokens(&self, tokens: u32) -> u32 {
        self.max_output_tokens
            .map_or(tokens, |most| tokens.min(most.try_into().unwrap_or(u32::MAX)))
    }

    /// Bounds the answer to `request`. Fails if the request asks for a longer one in `field`.
    pub fn bound_output(&self, request: &mut Request, field: &str) -> Result<(), ApiError> {
        let Some(most) = self.max_output_tokens else { return Ok(()) };
        match request.max_tokens {
            Some(tokens) if tokens > most => {
                let message =
                    format!("{field} is {tokens}: expected at most {most} (--max-output-tokens)");
                Err(ApiError::invalid_value(field, message))
            }
            tokens => {
                request.max_tokens = tokens.or(Some(most));
                Ok(())
            }
        }
    }

    /// Fails if the prompt in `field`, of `tokens` tokens, is too long for the server.
    pub fn check_prompt(&self, tokens: usize, field: &str) -> Result<(), ApiError> {
        match self.max_prompt_tokens {
            Some(most) if tokens > most => {
                let message = format!(
                    "a prompt of {tokens} tokens: expected at most {most} (--max-prompt-tokens)"
                );
                Err(ApiError::new(message).with_code("context_length_exceeded").with_param(field))
            }
            _ => Ok(()),
        }
    }
}

/// The largest body, in bytes, for a model whose longest sequence is `context` tokens.
fn max_body_bytes(context: usize) -> usize {
    const BASE: usize = 2 * 1024 * 1024;
    const PER_TOKEN: usize = 64;
    BASE + context.saturating_mul(PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_in_number_and_tokens() {
        let limits = |max_output_tokens| {
            RequestLimits::new(&ServeLimits { max_output_tokens, ..ServeLimits::default() }, 1024)
        };
        let unlimited = limits(None);
        assert_eq!(unlimited.check_choices("n", 128, 1, Some(10)).unwrap(), 128);
        assert_eq!(unlimited.check_choices("n", 2, 3, Some(10)).unwrap(), 6);
        assert_eq!(unlimited.check_choices("n", 16, 1, None).unwrap(), 16);
        assert_eq!(limits(Some(128)).check_choices("n", 128, 1, None).unwrap(), 128);
        assert!(limits(Some(129)).check_choices("n", 128, 1, None).is_err());
        for (n, prompts, max_tokens) in
            [(0, 1, None), (129, 1, Some(1)), (2, 65, Some(1)), (17, 1, None), (128, 1, Some(129))]
        {
            let error = unlimited.check_choices("best_of", n, prompts, max_tokens).unwrap_err();
            assert!(prompts > 1 || error.message.contains("best_of"), "{}", error.message);
            assert_eq!(error.param.as_deref(), Some("best_of"), "{n} {prompts} {max_tokens:?}");
        }
    }
}
