//! What the answers of all endpoints share.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::host::prepared::Prepared;
use crate::{AnswerStream, Engine};

/// A shorter prompt is computed as fast again as it is shared.
const LONG_PROMPT: usize = 64;

/// Starts `choices` answers to one request; that at index i from seed + i.
///
/// The first computes the prompt, the others find it in the prefix cache.
pub async fn start_all(
    engine: &Engine,
    prepared: &Prepared,
    choices: usize,
    seed: Option<u64>,
) -> crate::Result<Vec<AnswerStream>> {
    let seed = |index: usize| seed.map(|seed| seed.wrapping_add(index as u64));
    let mut answers = Vec::with_capacity(choices);
    for index in 0..choices {
        let mut answer = engine.start_answer(prepared, seed(index)).await?;
        if index == 0 && choices > 1 && prepared.prompt().len() >= LONG_PROMPT {
            answer.begun().await;
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// An id that no other answer has: `KIND-..`.
pub fn new_id(kind: &str) -> String {
    format!("{kind}-{}", Uuid::new_v4().simple())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Which program has answered.
pub fn fingerprint() -> &'static str {
    concat!("colm-", env!("CARGO_PKG_VERSION"))
}
