//! How a request chooses its chain count.

use axum::body::Body;
use axum::http::{header, Method, Request, StatusCode};
use colm_testing::random_model::with;
use futures::StreamExt;
use serde_json::{json, Value};
use tower::ServiceExt;

use super::{question, Server, CHAINS, CHAT};

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
