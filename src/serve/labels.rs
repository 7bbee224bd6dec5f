//! Fields that label a request and do not affect the answer.

use std::collections::HashMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;

/// Labels that OpenAI's clients send. They are checked and not stored.
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
    /// Fails if a value asks for a behavior that the server does not have.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.store == Some(true) {
            return Err(ApiError::unsupported(
                "store",
                "store: expected false, answers are not stored",
            ));
        }
        if self.service_tier.as_deref().is_some_and(|tier| !["auto", "default"].contains(&tier)) {
            let message = "service_tier: expected auto or default, there is only one service tier";
            return Err(ApiError::unsupported("service_tier", message));
        }
        if self.modalities.as_ref().is_some_and(|modalities| *modalities != ["text"]) {
            let message = "modalities: expected [\"text\"]";
            return Err(ApiError::unsupported("modalities", message));
        }
        Ok(())
    }
}
