//! Code shared by the endpoints that generate answers.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::host::prepared::Prepared;
use crate::{AnswerStream, Engine};

/// Prompts of at least this many tokens are computed once and shared through the prefix cache. Computing a shorter one
/// again takes no longer.
const MIN_SHARED_PROMPT: usize = 64;

/// Starts `choices` answers to one request. The answer at index i uses seed + i.
///
/// The first answer computes the prompt; the others reuse it from the prefix cache.
pub async fn start_answers(
    engine: &Engine,
    prepared: &Prepared,
    choices: usize,
    seed: Option<u64>,
) -> crate::Result<Vec<AnswerStream>> {
    let seed = |index: usize| seed.map(|seed| seed.wrapping_add(index as u64));
    let mut answers = Vec::with_capacity(choices);
    for index in 0..choices {
        let mut answer = engine.start_answer(prepared, seed(index)).await?;
        if index == 0 && choices > 1 && prepared.prompt().len() >= MIN_SHARED_PROMPT {
            answer.first_token_ready().await;
        }
        answers.push(answer);
    }
    Ok(answers)
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
