//! The chat and completions API, called through the router.

mod access;
mod answers;
mod chains;
mod errors;
mod limits;
mod metrics;
mod routes;

use axum::body::{to_bytes, Body};
use axum::http::{header, Method, Request, StatusCode};
use axum::Router;
use colm::serve::{Elastic, ServeOptions};
use colm::EngineBuilder;
use colm_testing::engine::engine;
use colm_testing::random_model;
use colm_testing::random_model::{air, with};
use serde_json::{json, Value};
use tempfile::TempDir;
use tower::ServiceExt;

const CHAT: &str = "/v1/chat/completions";
const CHAINS: usize = 4;
const NEW_TOKENS: usize = 12;

/// The router of an engine that serves the model as `model`.
struct Server {
    router: Router,
    _folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::elastic(Elastic::default()).await
    }

    async fn elastic(elastic: Elastic) -> Self {
        Self::with(ServeOptions::default().elastic(elastic)).await
    }

    async fn with(options: ServeOptions) -> Self {
        Self::with_engine(options, |builder| builder).await
    }

    async fn with_engine(
        options: ServeOptions,
        engine_options: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        let folder = random_model::folder(&air());
        let builder = colm_testing::engine::options(&folder.path().join("model"));
        let engine = engine(&engine_options(builder.max_seqs(2))).await;
        Self { router: colm::serve::router(&engine, options).unwrap(), _folder: folder }
    }

    async fn send(&self, method: Method, path: &str, body: String) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, body) = self.send(Method::GET, path, String::new()).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, body) = self.send(Method::POST, path, body.to_string()).await;
        let body = serde_json::from_str(&body);
        (status, body.unwrap_or_else(|error| panic!("{path} answers no JSON: {error}")))
    }

    /// The greedy answer to [`question`] with the fields of `fields`, and the model id in the response.
    async fn answer(&self, fields: Value) -> (String, String) {
        let (status, body) = self.post(CHAT, &question(fields)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let text = body["choices"][0]["message"]["content"].as_str().unwrap();
        (text.into(), body["model"].as_str().unwrap().into())
    }

    /// The message of an error response with `status` whose `param` is as given.
    async fn refusal(&self, path: &str, body: &Value, status: StatusCode, param: Value) -> String {
        let (answered, answer) = self.post(path, body).await;
        assert_eq!(answered, status, "{body} got {answer}");
        let error = &answer["error"];
        assert_eq!(error["type"], "invalid_request_error", "{body} got {answer}");
        assert_eq!(error["param"], param, "{body} got {answer}");
        error["message"].as_str().unwrap().into()
    }
}

/// A greedy chat request with the fields of `fields`.
fn question(fields: Value) -> Value {
    let request = json!({
        "messages": [{"role": "user", "content": "which is it, a or b?"}],
        "temperature": 0,
        "max_tokens": NEW_TOKENS,
    });
    with(request, |request| {
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    })
}
