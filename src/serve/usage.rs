//! Token counts in OpenAI's format.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::Usage;

/// The token counts of a request.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct UsageBody {
    /// Tokens of the prompts. A prompt counts once, even if it has several answers.
    pub prompt_tokens: usize,
    /// Tokens of all answers.
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub prompt_tokens_details: PromptTokensDetails,
    pub completion_tokens_details: CompletionTokensDetails,
    /// Tokens of the answers by the number of chains that computed them.
    // A key of a JSON object is a string, in the description too.
    #[schema(value_type = BTreeMap<String, usize>)]
    pub chains: BTreeMap<usize, usize>,
    /// The prompts counted so far, and how many tokens of each were found in the prefix cache.
    #[serde(skip)]
    prompts: BTreeMap<usize, usize>,
}

/// Details of the prompt tokens.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens found in the prefix cache.
    pub cached_tokens: usize,
}

/// Details of the answers' tokens.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens that the first chain has drafted and the other chains have confirmed (`--drafts`).
    pub accepted_prediction_tokens: usize,
    /// Tokens that the first chain has drafted and the other chains have not confirmed.
    pub rejected_prediction_tokens: usize,
}

impl UsageBody {
    /// Adds an answer to the prompt at index `prompt`. Answers may be added in any order.
    pub fn add(&mut self, prompt: usize, usage: Usage) {
        // The first answer computes the prompt. The others find it in the cache.
        let cached = self.prompts.entry(prompt).or_insert_with(|| {
            self.prompt_tokens += usage.prompt_tokens;
            usage.cached_tokens
        });
        *cached = usage.cached_tokens.min(*cached);
        self.prompt_tokens_details.cached_tokens = self.prompts.values().sum();
        self.completion_tokens += usage.completion_tokens;
        let details = &mut self.completion_tokens_details;
        details.accepted_prediction_tokens += usage.accepted_tokens;
        details.rejected_prediction_tokens +=
            usage.drafted_tokens.saturating_sub(usage.accepted_tokens);
        *self.chains.entry(usage.chains).or_default() += usage.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once_and_its_answers_each() {
        let usage = |prompt_tokens, cached_tokens, completion_tokens| Usage {
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            ..Usage::default()
        };
        let mut body = UsageBody::default();
        body.add(0, usage(10, 9, 3));
        body.add(1, usage(5, 4, 1));
        body.add(0, usage(10, 2, 4));
        assert_eq!((body.prompt_tokens, body.completion_tokens, body.total_tokens), (15, 8, 23));
        assert_eq!(body.prompt_tokens_details.cached_tokens, 2 + 4);
    }
}
