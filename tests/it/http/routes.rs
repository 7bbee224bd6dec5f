//! The routes, their description, and the web pages that may use them.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use colm::serve::ServeOptions;
use colm_testing::engine::{engine, options};
use colm_testing::random_model;
use colm_testing::random_model::air;
use serde_json::{json, Value};
use tower::ServiceExt;

use super::{question, Server, CHAINS, CHAT};

#[tokio::test(flavor = "multi_thread")]
async fn the_api_description_has_the_field() {
    let server = Server::start().await;
    let (status, document) = server.get("/api-doc/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    let chains = &document["components"]["schemas"]["ModelFields"]["properties"]["chains"];
    assert_eq!((&chains["minimum"], &chains["maximum"]), (&json!(1), &json!(CHAINS)));
    let (status, page) = server.send(Method::GET, "/docs/", String::new()).await;
    assert!(status.is_success() && page.contains("swagger"), "{status}");
}

/// Routes of the host's own router that colm does not document do not exist.
#[tokio::test(flavor = "multi_thread")]
async fn all_routes_are_documented() {
    let server = Server::start().await;
    for (method, path) in [
        (Method::POST, "/v1/embeddings"),
        (Method::POST, "/v1/models/unload"),
        (Method::POST, "/v1/models/reload"),
        (Method::POST, "/v1/models/status"),
        (Method::POST, "/v1/models/tune"),
        (Method::GET, "/v1/system/info"),
        (Method::POST, "/v1/system/doctor"),
        (Method::POST, "/re_isq"),
        (Method::POST, "/v1/images/generations"),
        (Method::POST, "/v1/audio/speech"),
        (Method::GET, "/v1/responses/resp_1"),
        (Method::DELETE, "/v1/responses/resp_1"),
        (Method::POST, "/v1/responses/resp_1/cancel"),
        (Method::GET, "/"),
    ] {
        let body = json!({"model_id": "model", "ggml_type": "Q4K", "input": "a"}).to_string();
        let (status, answer) = server.send(method, path, body).await;
        assert!(
            [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status),
            "{path}: {status}"
        );
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["type"], "invalid_request_error", "{path}");
    }
    let (_, document) = server.get("/api-doc/openapi.json").await;
    let mut described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    described.sort();
    let expected = [
        "/health",
        "/metrics",
        "/ready",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/responses",
    ];
    assert_eq!(described, expected);
    server.answer(json!({})).await;
}

/// CORS preflight requests, with the headers of OpenAI's JavaScript client.
#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_origins_pass_cors() {
    let folder = random_model::folder(&air());
    let engine = engine(&options(&folder.path().join("model"))).await;
    let options = ServeOptions::default().allow_origins(["https://a.org"]).loopback(true);
    let router = colm::serve::router(&engine, options).unwrap();
    let send = |origin: &str, host: &str, method: Method| {
        let request = Request::builder().method(method).uri(CHAT);
        let request = request.header("origin", origin).header("host", host);
        let request = request.header("access-control-request-method", "POST");
        let request = request
            .header("access-control-request-headers", "authorization,content-type,x-stainless-lang")
            .header("content-type", "application/json")
            .body(Body::from(question(json!({})).to_string()));
        router.clone().oneshot(request.unwrap())
    };
    let preflight = send("https://a.org", "localhost:1234", Method::OPTIONS).await.unwrap();
    assert_eq!(preflight.status(), StatusCode::OK);
    let header = |name: &str| preflight.headers()[name].to_str().unwrap();
    assert_eq!(header("access-control-allow-origin"), "https://a.org");
    assert!(header("access-control-allow-headers").contains("x-stainless-lang"));
    let allowed = send("https://a.org", "localhost:1234", Method::POST).await.unwrap();
    assert_eq!(allowed.status(), StatusCode::OK);
    for (origin, host) in [("https://b.org", "localhost:1234"), ("https://a.org", "evil.org")] {
        for method in [Method::OPTIONS, Method::POST] {
            let refused = send(origin, host, method).await.unwrap();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{origin} at {host}");
            assert!(!refused.headers().contains_key("access-control-allow-origin"));
        }
    }
}
