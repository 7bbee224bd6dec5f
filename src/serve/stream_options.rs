//! The field `stream_options`.

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;

/// Options of a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Send a last chunk with the usage.
    pub include_usage: Option<bool>,
    /// Only `false`.
    pub include_obfuscation: Option<bool>,
}

impl StreamOptions {
    /// Whether the last chunk has the usage. Fails if an option is not supported, or if nothing is streamed.
    pub fn include_usage(options: Option<Self>, stream: bool) -> Result<bool, ApiError> {
        let Some(options) = options else { return Ok(false) };
        if !stream {
            let message = "stream_options: expected \"stream\": true with it";
            return Err(ApiError::invalid_value("stream_options", message));
        }
        options.check()?;
        Ok(options.include_usage.unwrap_or(false))
    }

    /// Fails if an option is not supported.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.include_obfuscation == Some(true) {
            let message = "include_obfuscation: expected false, streams are not obfuscated";
            return Err(ApiError::unsupported("stream_options.include_obfuscation", message));
        }
        Ok(())
    }
}
