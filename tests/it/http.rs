//! The chat and completions API, called through the router.

use axum::body::{to_bytes, Body};
use axum::http::{header, Method, Request, StatusCode};
use axum::Router;
use colm::serve::{Elastic, ServeOptions};
use colm_testing::engine::{engine, options};
use colm_testing::random_model::{self, air, with};
use futures::StreamExt;
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
        let folder = random_model::folder(&air());
        let engine = engine(&options(&folder.path().join("model"))).await;
        let options = ServeOptions::default().elastic(elastic);
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

#[tokio::test(flavor = "multi_thread")]
async fn every_chain_count_has_a_model_id() {
    let server = Server::start().await;
    let (status, models) = server.get("/v1/models").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(models["object"], "list");
    let models = models["data"].as_array().unwrap();
    let ids: Vec<&str> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["default", "model", "model@1", "model@2", "model@3", "model@4"]);
    for model in models {
        assert_eq!(model["object"], "model");
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        let (status, same) =
            server.get(&format!("/v1/models/{}", model["id"].as_str().unwrap())).await;
        assert_eq!((status, &same), (StatusCode::OK, model));
    }
    let (status, unknown) = server.get("/v1/models/model@5").await;
    assert_eq!(
        (status, &unknown["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("model_not_found"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_id_and_the_field_choose_the_same_chains() {
    let server = Server::start().await;
    let mut answers = Vec::new();
    for k in 1..=CHAINS {
        let id = format!("model@{k}");
        let (answer, model) = server.answer(json!({"model": id})).await;
        assert_eq!(model, id);
        for fields in [
            json!({"chains": k}),
            json!({"model": "model", "chains": k}),
            json!({"model": id, "chains": k}),
        ] {
            assert_eq!(
                server.answer(fields.clone()).await,
                (answer.clone(), id.clone()),
                "{fields}"
            );
        }
        answers.push(answer);
    }
    for (k, answer) in answers.iter().enumerate() {
        assert!(!answers[..k].contains(answer), "{} chains answer as fewer do: {answers:?}", k + 1);
    }
    let all = (answers[CHAINS - 1].clone(), format!("model@{CHAINS}"));
    for fields in
        [json!({}), json!({"model": "default"}), json!({"model": "model", "chains": null})]
    {
        assert_eq!(server.answer(fields.clone()).await, all, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_different_chain_counts_run_concurrently() {
    let server = Server::start().await;
    let answer_at = |k: usize| server.answer(json!({"chains": k}));
    let mut alone = Vec::new();
    for k in 1..=CHAINS {
        alone.push(answer_at(k).await);
    }
    let together = futures::future::join_all((1..=CHAINS).map(answer_at)).await;
    assert_eq!(together, alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_text_of_the_answer() {
    let server = Server::start().await;
    let (answer, model) = server.answer(json!({"chains": 3})).await;
    let request =
        question(json!({"chains": 3, "stream": true, "stream_options": {"include_usage": true}}));
    let (status, events) = server.send(Method::POST, CHAT, request.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let (chunks, end) = events.trim_end().rsplit_once("\n\n").unwrap();
    assert_eq!(end, "data: [DONE]");
    let chunks = chunks.split("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    let chunks: Vec<Value> = chunks.map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert!(chunks.len() > 1, "{events}");
    assert!(chunks.iter().all(|chunk| chunk["model"] == *model), "{events}");
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), answer);
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], NEW_TOKENS);
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_endpoints_choose_chains_too() {
    let server = Server::start().await;
    for (path, request) in [
        ("/v1/completions", json!({"prompt": "a dog", "temperature": 0, "max_tokens": 4})),
        ("/v1/responses", json!({"input": "a dog", "temperature": 0, "max_output_tokens": 16})),
    ] {
        for k in [1, CHAINS] {
            let request = with(request.clone(), |request| request["chains"] = json!(k));
            let (status, body) = server.post(path, &request).await;
            assert_eq!((status, &body["model"]), (StatusCode::OK, &json!(format!("model@{k}"))));
        }
        let request = with(request, |request| request["chains"] = json!(CHAINS + 1));
        let message =
            server.refusal(path, &request, StatusCode::BAD_REQUEST, json!("chains")).await;
        assert!(message.contains("from 1 to 4"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_chain_counts_fail_with_the_valid_range() {
    let server = Server::start().await;
    for chains in [json!(0), json!(5), json!(-1), json!(2.5), json!("2"), json!(true), json!([1])] {
        let request = question(json!({"chains": chains}));
        let message =
            server.refusal(CHAT, &request, StatusCode::BAD_REQUEST, json!("chains")).await;
        assert!(
            message.contains("from 1 to 4") && message.contains(&chains.to_string()),
            "{message}"
        );
    }
    let request = question(json!({"model": "model@1", "chains": 2}));
    server.refusal(CHAT, &request, StatusCode::BAD_REQUEST, json!("chains")).await;
    for model in ["model@0", "model@5", "model@two", "model@", "gpt-4"] {
        let request = question(json!({"model": model}));
        let message = server.refusal(CHAT, &request, StatusCode::NOT_FOUND, json!("model")).await;
        assert!(message.contains("from 1 to 4") && message.contains(model), "{message}");
    }
    let request = question(json!({"model": 7}));
    server.refusal(CHAT, &request, StatusCode::BAD_REQUEST, json!("model")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_have_the_same_shape() {
    let server = Server::start().await;
    let long = "a ".repeat(600);
    let long = json!({"messages": [{"role": "user", "content": long}]});
    let streamed = with(long.clone(), |request| request["stream"] = json!(true));
    let no_content = json!({"messages": [{"role": "user", "content": null}]});
    let refused = [
        (CHAT, question(long), Value::Null),
        (CHAT, question(streamed), Value::Null),
        (CHAT, question(json!({"messages": 5})), json!("messages")),
        (CHAT, question(json!({"max_tokens": -1})), json!("max_tokens")),
        (CHAT, question(json!({"temperature": "hot"})), json!("temperature")),
        (CHAT, question(json!({"grammar": {"type": "regex", "value": "("}})), Value::Null),
        (CHAT, json!({}), json!("messages")),
        (CHAT, json!([]), Value::Null),
        ("/v1/completions", json!({"prompt": ""}), Value::Null),
        (CHAT, question(no_content), json!("messages[0].content")),
        (CHAT, question(json!({"n": 1000})), json!("n")),
    ];
    for (path, request, param) in refused {
        let message = server.refusal(path, &request, StatusCode::BAD_REQUEST, param).await;
        assert!(!message.is_empty() && !message.starts_with('{'), "{message}");
    }
    server.refusal("/v1/no/such/route", &json!({}), StatusCode::NOT_FOUND, Value::Null).await;
    let (status, answer) = server.send(Method::POST, CHAT, "{not json".into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let (status, answer) = server.get(CHAT).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{answer}");
    // The server still answers.
    server.answer(json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_numbers_are_accepted() {
    let server = Server::start().await;
    for fields in [
        json!({"max_tokens": 0}),
        json!({"max_tokens": 1_000_000_000}),
        json!({"max_tokens": 1_000_000_000, "max_completion_tokens": 3}),
        json!({"temperature": 2, "top_p": 1e-9}),
        json!({"temperature": 1, "top_p": 0, "top_k": 0}),
        json!({"logprobs": true, "top_logprobs": 20}),
        json!({"stop": []}),
    ] {
        server.answer(fields).await;
    }
}

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

/// With `--elastic`, a request without k gets fewer chains while another is in progress, streamed or not. A request
/// with k gets that k.
#[tokio::test(flavor = "multi_thread")]
async fn elastic_serving_chooses_chains_by_load() {
    let server = Server::elastic("2:1".parse().unwrap()).await;
    let model = |fields: Value| async { server.answer(fields).await.1 };
    assert_eq!(model(json!({})).await, "model@4");

    let stream = question(json!({"stream": true, "max_tokens": 400, "model": "model@3"}));
    let request = Request::builder().method(Method::POST).uri(CHAT);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(stream.to_string())).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let mut events = response.into_body().into_data_stream();
    events.next().await.unwrap().unwrap();
    assert_eq!(model(json!({})).await, "model@1");
    assert_eq!(model(json!({"model": "default"})).await, "model@1");
    assert_eq!(model(json!({"model": "model@2"})).await, "model@2");
    assert_eq!(model(json!({"chains": 4})).await, "model@4");

    // Dropped before its end.
    drop(events);
    assert_eq!(model(json!({})).await, "model@4");
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
