//! Code shared by the endpoints that generate answers.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::error::ApiError;
use super::model_choice::ModelChoice;
use super::AppState;
use crate::host::prepared::Prepared;
use crate::{AnswerStream, Error, GrammarError, Request};

/// Prompts of at least this many tokens are computed once and shared through the prefix cache. Computing a shorter one
/// again takes no longer.
const MIN_SHARED_PROMPT: usize = 64;

/// The fields of a body that the parts of a request come from.
#[derive(Clone, Copy)]
pub struct SourceFields {
    /// That of the prompt.
    pub prompt: &'static str,
    /// That of the grammar, if there is one.
    pub grammar: Option<&'static str>,
    /// That of the maximum number of tokens.
    pub max_tokens: &'static str,
    /// That of the number of answers.
    pub choices: &'static str,
}

impl SourceFields {
    /// An error of preparing or answering a request, with the field at fault.
    pub fn name_in(self, error: Error) -> ApiError {
        let field = match error {
            Error::EmptyPrompt
            | Error::ContextLength { .. }
            | Error::TextLength { .. }
            | Error::UnknownToken { .. }
            | Error::NoChatTemplate
            | Error::ChatTemplate(_)
            | Error::Tokenizer(_) => self.prompt,
            Error::UnknownBias { .. } => "logit_bias",
            Error::InvalidDry { field, .. } => field,
            Error::Grammar(GrammarError::Busy) => return error.into(),
            Error::Grammar(_) => {
                let Some(field) = self.grammar else { return error.into() };
                let mut error = ApiError::from(error).with_param(field);
                error.message = format!("{field}: {}", error.message);
                return error;
            }
            error => return error.into(),
        };
        ApiError::from(error).with_param(field)
    }
}

impl AppState {
    /// Checks `request` against the limits of the server, and prepares it. Errors name one of `fields`.
    pub async fn prepare(
        &self,
        mut request: Request,
        fields: SourceFields,
    ) -> Result<Prepared, ApiError> {
        self.limits.bound_output(&mut request, fields.max_tokens)?;
        let prepared = self.engine.prepare(request).await;
        let prepared = prepared.map_err(|error| fields.name_in(error))?;
        self.limits.check_prompt(prepared.prompt().len(), fields.prompt)?;
        Ok(prepared)
    }

    /// Starts `choices` answers to one request. The answer at index i uses the seed of the request + i.
    ///
    /// The first answer computes the prompt; the others reuse it from the prefix cache. An answer that collects the
    /// prompt's log-probabilities bypasses the cache, so with them the second answer computes the prompt again. The
    /// others share the log-probabilities of the first.
    pub async fn start_answers(
        &self,
        chosen: &ModelChoice,
        prepared: &Prepared,
        choices: usize,
    ) -> Result<Vec<AnswerStream>, ApiError> {
        let seed = |index: usize| prepared.seed().map(|seed| seed.wrapping_add(index as u64));
        let (has_probe, is_long) =
            (prepared.has_probe(), prepared.prompt().len() >= MIN_SHARED_PROMPT);
        let is_awaited = |index: usize| {
            let computes_for_others = match index {
                0 => has_probe || is_long,
                1 => has_probe && is_long,
                _ => false,
            };
            computes_for_others && index + 1 < choices
        };
        let mut answers: Vec<AnswerStream> = Vec::with_capacity(choices);
        for index in 0..choices {
            let mut answer =
                self.engine.start_answer(prepared, seed(index), answers.first()).await?;
            answer.observe(self.metrics.observer(chosen.chains, &chosen.active));
            if is_awaited(index) {
                answer.first_token_ready().await;
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// A unique id, `KIND-..`.
pub fn new_id(kind: &str) -> String {
    format!("{kind}-{}", Uuid::new_v4().simple())
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The `system_fingerprint` of every answer: name and version of the program.
pub fn system_fingerprint() -> &'static str {
    concat!("colm-", env!("CARGO_PKG_VERSION"))
}
