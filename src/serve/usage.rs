//! What an answer took, as OpenAI writes it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::Usage;

/// Tokens of a request and its answers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct UsageBody {
    /// Of the prompt, counted once for all answers to it.
    pub prompt_tokens: usize,
    /// Of all answers.
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub prompt_tokens_details: PromptTokensDetails,
    /// The prompts that are counted.
    #[serde(skip)]
    prompts: Vec<usize>,
}

/// Of the prompt.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Found in the prefix cache.
    pub cached_tokens: usize,
}

impl UsageBody {
    /// Adds that of an answer to the prompt at index `prompt`; the answers to a prompt come one after
    /// the other in no order.
    pub fn add(&mut self, prompt: usize, usage: Usage) {
        if !self.prompts.contains(&prompt) {
            self.prompts.push(prompt);
            self.prompt_tokens += usage.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += usage.cached_tokens;
        }
        self.completion_tokens += usage.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once_and_its_answers_each() {
        let usage = |prompt_tokens, completion_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        };
        let mut body = UsageBody::default();
        body.add(0, usage(10, 3));
        body.add(1, usage(5, 1));
        body.add(0, usage(10, 4));
        assert_eq!((body.prompt_tokens, body.completion_tokens, body.total_tokens), (15, 8, 23));
    }
}
