//! API keys: `Authorization: Bearer KEY`.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use super::error::ApiError;

/// The shortest key: 16 characters, which cannot be guessed if they are random.
const MIN_LENGTH: usize = 16;

/// Keys that give access to the server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ApiKeys(Vec<String>);

/// Why a text is not an API key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// It could be guessed.
    #[error("a key of {0} characters: expected at least {MIN_LENGTH}")]
    TooShort(usize),
    /// It does not fit into a header.
    #[error("a key with a space or a character beyond ASCII: expected visible ASCII characters")]
    NotVisible,
}

impl ApiKeys {
    /// From keys of at least 16 visible ASCII characters each.
    ///
    /// # Errors
    /// If a key is too short, or has other characters.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Result<Self, ApiKeyError> {
        let keys: Vec<String> = keys.into_iter().collect();
        for key in &keys {
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(ApiKeyError::NotVisible);
            }
            if key.len() < MIN_LENGTH {
                return Err(ApiKeyError::TooShort(key.len()));
            }
        }
        Ok(Self(keys))
    }

    /// Whether there are none: every client may use the server.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `presented` is one of the keys. The time it takes does not depend on how much of a key is right.
    fn contains(&self, presented: &str) -> bool {
        let equal = self.0.iter().map(|key| key.as_bytes().ct_eq(presented.as_bytes()));
        equal.fold(Choice::from(0), |found, equal| found | equal).into()
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.is_empty() {
            return Ok(());
        }
        let refused = |message: &str| {
            ApiError::new(message)
                .with_status(StatusCode::UNAUTHORIZED)
                .with_code("invalid_api_key")
        };
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(refused("no API key: expected the header `Authorization: Bearer KEY`"));
        };
        let value = value.to_str().unwrap_or_default();
        let key = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, key)) = key else {
            return Err(refused(
                "the header Authorization has another scheme: expected `Authorization: Bearer KEY`",
            ));
        };
        if self.contains(key.trim()) {
            Ok(())
        } else {
            Err(refused("the API key is wrong"))
        }
    }
}

/// Does not show the keys.
impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.0.len())
    }
}

/// The routes that need no key: load balancers ask them.
const OPEN: [&str; 2] = ["/health", "/ready"];

/// Middleware: rejects requests without a key.
pub async fn require_key(State(keys): State<ApiKeys>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match keys.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let mut response = error.into_response();
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn accepts(authorization: Option<&str>) -> bool {
        let keys = ApiKeys::new([KEY.to_string(), "another-key-of-20-ch".to_string()]).unwrap();
        let headers = authorization.map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
        keys.check(&headers.into_iter().collect()).is_ok()
    }

    #[test]
    fn one_of_the_keys_is_required() {
        for right in
            ["Bearer 0123456789abcdef", "bearer another-key-of-20-ch", "BEARER  0123456789abcdef"]
        {
            assert!(accepts(Some(right)), "{right}");
        }
        let wrong = ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Bearer 0123456789abcde"];
        for wrong in wrong.into_iter().chain([
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer 0123456789abcdef0",
        ]) {
            assert!(!accepts(Some(wrong)), "{wrong}");
        }
        assert!(!accepts(None));
        assert!(ApiKeys::default().check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn keys_that_could_be_guessed_or_not_sent_are_refused() {
        let refused = |key: &str| ApiKeys::new([key.to_string()]).unwrap_err();
        assert_eq!(refused("short"), ApiKeyError::TooShort(5));
        assert_eq!(refused(""), ApiKeyError::TooShort(0));
        assert_eq!(refused("0123456789 abcdef"), ApiKeyError::NotVisible);
        assert_eq!(refused("0123456789abcdéf"), ApiKeyError::NotVisible);
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = ApiKeys::new([KEY.to_string()]).unwrap();
        assert_eq!(format!("{keys:?}"), "ApiKeys(1 keys)");
    }
}
