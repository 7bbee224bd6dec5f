//! Fields that label a request and change no answer.

use std::collections::HashMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::Refusal;

/// Labels that OpenAI's clients send. None of them is kept: nothing of a request is.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Labels {
    #[allow(dead_code, reason = "its type is checked")]
    user: Option<String>,
    #[allow(dead_code, reason = "its type is checked")]
    safety_identifier: Option<String>,
    #[allow(dead_code, reason = "its type is checked")]
    prompt_cache_key: Option<String>,
    #[allow(dead_code, reason = "its type is checked")]
    metadata: Option<HashMap<String, String>>,
    /// Only `false`.
    store: Option<bool>,
    /// Only `auto` and `default`.
    service_tier: Option<String>,
    /// Only `["text"]`.
    modalities: Option<Vec<String>>,
}

impl Labels {
    /// Refuses what would have to change something.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.store == Some(true) {
            return Err(Refusal::unsupported("store", "answers are not stored: leave store out"));
        }
        if self.service_tier.as_deref().is_some_and(|tier| !["auto", "default"].contains(&tier)) {
            let message = "there is one service tier: leave service_tier out";
            return Err(Refusal::unsupported("service_tier", message));
        }
        if self.modalities.as_ref().is_some_and(|modalities| *modalities != ["text"]) {
            let message = "answers are text: leave modalities out";
            return Err(Refusal::unsupported("modalities", message));
        }
        Ok(())
    }
}
