//! How tokens are chosen from logits.

/// How each token is chosen from the logits.
///
/// The default is greedy: the most likely token, without penalties.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Logits are divided by it before sampling. 0 is greedy.
    pub temperature: f64,
    /// Sample from the most likely tokens only, as many as have this probability together. 0 to 1; 0 is greedy.
    pub top_p: Option<f64>,
    /// Sample only from this many of the most likely tokens. At least 1.
    pub top_k: Option<usize>,
    /// Sample from tokens with at least this share of the highest probability only. 0 to 1; 1 is greedy.
    pub min_p: Option<f64>,
    /// Subtracted from the logit of a token for each time it has occurred.
    pub frequency_penalty: Option<f32>,
    /// Subtracted from the logit of a token that has occurred.
    pub presence_penalty: Option<f32>,
    /// Logits of tokens that have occurred are divided by it (multiplied, if negative). Above 0.
    pub repetition_penalty: Option<f32>,
    /// A penalty for tokens that would continue a repetition.
    pub dry: Option<Dry>,
}

/// "Don't repeat yourself": a penalty of `multiplier * base ^ (length - allowed_length)` for a token that would
/// extend a repetition of `length` tokens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dry {
    /// At least 0.
    pub multiplier: f32,
    /// At least 1.
    pub base: f32,
    /// The shortest repetition with a penalty, in tokens: at most [`Self::MAX_ALLOWED_LENGTH`].
    pub allowed_length: usize,
    /// Texts that end a repetition: each a single token of the model. None: a newline, a colon, a quotation mark and an
    /// asterisk, as far as they are such tokens.
    pub sequence_breakers: Option<Vec<String>>,
}

impl Dry {
    /// With base 1.75, an allowed length of 2 tokens, and the default sequence breakers.
    pub fn new(multiplier: f32) -> Self {
        Self { multiplier, base: 1.75, allowed_length: 2, sequence_breakers: None }
    }
}
