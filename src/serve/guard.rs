//! Protects a local server from web pages: checks the Origin header (cross-origin requests) and the Host header (DNS
//! rebinding).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{header, HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use colm_checkpoint::abbreviate;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::error::ApiError;
use crate::Error;

/// Which origins and host names may use the server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Guard {
    /// Origins of web pages that may use the API, such as `https://example.org`.
    pub allow_origins: Vec<String>,
    /// Whether the server listens on a loopback address only. Then the Host header must name a loopback host.
    pub loopback: bool,
}

impl Guard {
    /// The CORS headers for the allowed origins.
    pub(super) fn cors(&self) -> crate::Result<CorsLayer> {
        let origins = self.allow_origins.iter().map(|origin| {
            let is_complete = origin.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.is_empty() && !host.contains('/')
            });
            let value = HeaderValue::from_str(origin).ok().filter(|_| is_complete);
            value.ok_or_else(|| Error::InvalidOption {
                option: "allow_origins",
                value: origin.clone(),
                problem: "expected SCHEME://HOST[:PORT], as in https://example.org".into(),
            })
        });
        Ok(CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.collect::<crate::Result<Vec<_>>>()?))
            .allow_methods([Method::GET, Method::POST])
            // OpenAI's JavaScript client sends a dozen headers of its own.
            .allow_headers(AllowHeaders::mirror_request()))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = text(headers, header::HOST);
        if let Some(host) = host.filter(|host| self.loopback && !is_loopback(host)) {
            let host = abbreviate(host);
            let message = format!(
                "the Host header {host} does not name this server: it listens on localhost only"
            );
            return Err(ApiError::new(message).with_status(StatusCode::FORBIDDEN));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or("(not text)");
        let origin_host = origin.split_once("://").map(|(_, host)| host);
        if self.allow_origins.iter().any(|allowed| allowed == origin)
            || (origin_host.is_some() && origin_host == host)
        {
            return Ok(());
        }
        let origin = abbreviate(origin);
        let message = format!(
            "web pages of {origin} may not use this server: see `colm serve --allow-origin`"
        );
        Err(ApiError::new(message).with_status(StatusCode::FORBIDDEN))
    }
}

/// Middleware: rejects requests that the guard does not allow.
pub async fn guard(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    guard.check(request.headers())?;
    Ok(next.run(request).await)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("(not text)"))
}

/// Whether `host`, with or without a port, is a loopback host.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed_by(guard: &Guard, headers: &[(header::HeaderName, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        guard.check(&headers.collect()).is_ok()
    }

    #[test]
    fn a_loopback_server_accepts_loopback_host_names_only() {
        let guard = Guard { loopback: true, ..Guard::default() };
        for own in
            ["localhost", "localhost:1234", "127.0.0.1:80", "[::1]:80", "127.1.2.3", "LOCALHOST."]
        {
            assert!(allowed_by(&guard, &[(header::HOST, own)]), "{own}");
        }
        for other in
            ["example.org", "localhost.example.org", "10.0.0.1", "[2001:db8::1]:80", "evil"]
        {
            assert!(!allowed_by(&guard, &[(header::HOST, other)]), "{other}");
            assert!(allowed_by(&Guard::default(), &[(header::HOST, other)]), "{other}");
        }
        assert!(allowed_by(&guard, &[]));
    }

    #[test]
    fn other_origins_are_rejected_unless_allowed() {
        let guard = Guard { allow_origins: vec!["https://a.org".into()], loopback: true };
        let host = (header::HOST, "localhost:1234");
        assert!(allowed_by(&guard, &[host.clone(), (header::ORIGIN, "http://localhost:1234")]));
        assert!(allowed_by(&guard, &[host.clone(), (header::ORIGIN, "https://a.org")]));
        for origin in
            ["https://b.org", "http://a.org", "null", "http://localhost:5", "https://a.org.b"]
        {
            assert!(!allowed_by(&guard, &[host.clone(), (header::ORIGIN, origin)]), "{origin}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        let cors =
            |origin: &str| Guard { allow_origins: vec![origin.into()], loopback: false }.cors();
        assert!(cors("https://a.org:8080").is_ok());
        for refused in ["a.org", "*", "https://a.org/", "", "://a", "https://"] {
            assert!(cors(refused).is_err(), "{refused}");
        }
    }
}
