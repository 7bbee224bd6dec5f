//! API keys and request ids.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use colm::serve::{ApiKeys, ServeOptions};
use serde_json::{json, Value};
use tower::ServiceExt;

use super::{question, Server, CHAT};

const KEY: &str = "a-key-of-20-letters!";

/// Every route, and whether it needs a key.
const ROUTES: [(&str, &str, bool); 11] = [
    ("GET", "/health", false),
    ("GET", "/ready", false),
    ("GET", "/metrics", true),
    ("GET", "/docs/", true),
    ("GET", "/api-doc/openapi.json", true),
    ("GET", "/v1/models", true),
    ("GET", "/v1/models/model", true),
    ("POST", CHAT, true),
    ("POST", "/v1/completions", true),
    ("POST", "/v1/responses", true),
    ("GET", "/no/such/route", true),
];

async fn status(
    server: &Server,
    method: &str,
    path: &str,
    key: Option<&str>,
) -> (StatusCode, Value) {
    let request =
        Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = match key {
        Some(key) => request.header("authorization", key),
        None => request,
    };
    let body = json!({"prompt": "a", "max_tokens": 1}).to_string();
    let response =
        server.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    let is_challenged = response.headers().contains_key("www-authenticate");
    assert_eq!(is_challenged, status == StatusCode::UNAUTHORIZED, "{path}");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_health_and_ready_needs_a_key() {
    let keys = ApiKeys::new([KEY.to_string()]).unwrap();
    let server = Server::with(ServeOptions::default().api_keys(keys)).await;
    let right = format!("Bearer {KEY}");
    let wrong = ["Bearer a-key-of-20-letters?", "Bearer ", "Basic a-key-of-20-letters!", KEY, ""];
    for (method, path, needs_key) in ROUTES {
        let refused = |status| status == StatusCode::UNAUTHORIZED;
        let (with_key, _) = status(&server, method, path, Some(&right)).await;
        assert!(!refused(with_key), "{path}: {with_key}");
        for key in wrong.map(Some).into_iter().chain([None]) {
            let (without, body) = status(&server, method, path, key).await;
            assert_eq!(refused(without), needs_key, "{path} with {key:?}: {without}");
            if needs_key {
                assert_eq!(body["error"]["code"], "invalid_api_key", "{path} with {key:?}: {body}");
                assert!(!body.to_string().contains(KEY));
            }
        }
    }
}

/// A web page asks whether it may send a key before it does, without the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_request_needs_no_key() {
    let keys = ApiKeys::new([KEY.to_string()]).unwrap();
    let options = ServeOptions::default().api_keys(keys).allow_origins(["https://a.org"]);
    let server = Server::with(options).await;
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri(CHAT)
        .header("origin", "https://a.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .body(Body::empty());
    let response = server.router.clone().oneshot(preflight.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_has_the_id_of_its_request() {
    let server = Server::start().await;
    for (sent, taken) in [(Some("abc-1"), true), (Some("two words"), false), (None, false)] {
        let request = Request::builder().method("POST").uri(CHAT);
        let request = request.header("content-type", "application/json");
        let request =
            sent.into_iter().fold(request, |request, id| request.header("x-request-id", id));
        let request = request.body(Body::from(question(json!({})).to_string())).unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert_eq!(Some(id) == sent, taken, "{id}");
        assert!(!id.is_empty());
    }
}
