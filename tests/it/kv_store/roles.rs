//! Prefill apart from decode: one engine computes prompts, another one answers.

use std::time::Duration;

use axum::body::{to_bytes, Body};
use axum::http;
use colm::serve::{Role, ServeOptions};
use colm::PrefillServerOptions;
use serde_json::{json, Value};
use tower::ServiceExt;

use super::*;

/// A server that computes prompts, and its address.
async fn prefill_server(options: &EngineBuilder) -> (Engine, String) {
    let engine = engine(options).await;
    let serving = ServeOptions::default().role(Role::Prefill).loopback(true);
    let router = colm::serve::router(&engine, serving).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (engine, url)
}

/// An engine that has long prompts computed at `url`.
async fn decoding(model: &Path, folder: &Path, url: &str) -> Engine {
    let server = PrefillServerOptions::new(url).threshold(64).timeout(Duration::from_secs(60));
    let store = store(folder).prefill_server(server);
    engine(&options(model).block_size(BLOCK_SIZE).kv_store(store)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_chain_of_an_air_computes_long_prompts() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let options = with_store(&model, folder.path()).max_chains(1);
    let (prefill, url) = prefill_server(&options).await;
    let decode = decoding(&model, folder.path(), &url).await;
    for (length, by_prefill) in [(100, 96), (50, 0)] {
        let before = computed(&prefill);
        let request = || Request::tokens(prompt(length, length)).max_tokens(8);
        let answer = decode.answer(request()).await.unwrap();
        assert_eq!(answer.text, answer_alone(&model, request()).await, "{length} tokens");
        assert_eq!(answer.usage.cached_tokens, by_prefill, "{length} tokens");
        assert_eq!(computed(&prefill) > before, by_prefill > 0, "{length} tokens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colm_computes_long_prompts_at_the_chains_of_the_request() {
    let model = random_model::folder(&random_model::colm());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let (_prefill, url) = prefill_server(&with_store(&model, folder.path())).await;
    let decode = decoding(&model, folder.path(), &url).await;
    for k in 1..=4 {
        let request = || Request::tokens(prompt(1, 100)).chains(chain_count(k)).max_tokens(8);
        let answer = decode.answer(request()).await.unwrap();
        assert_eq!(answer.text, answer_alone(&model, request()).await, "k = {k}");
        assert_eq!(answer.usage.cached_tokens, 96, "k = {k}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_prefill_server_prompts_are_computed_where_they_are() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let request = || Request::tokens(prompt(1, 100)).max_tokens(8);
    let expected = answer_alone(&model, request()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (_prefill, other_store) = prefill_server(&with_store(&model, elsewhere.path())).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for (name, url) in [("nobody listens", nobody), ("another store", other_store)] {
        let folder = tempfile::tempdir().unwrap();
        let decode = decoding(&model, folder.path(), &url).await;
        assert_eq!(decode.answer(request()).await.unwrap().text, expected, "{name}");
        assert_eq!(decode.counts().reused, 0, "{name}");
    }
    let no_url = store(elsewhere.path()).prefill_server(PrefillServerOptions::new("prefill:1234"));
    let error = start_error(&options(&model).kv_store(no_url)).await;
    assert!(error.contains("`prefill` prefill:1234") && error.contains("http://"), "{error}");
    let login = PrefillServerOptions::new("http://user:secret@host:1234");
    let error =
        start_error(&options(&model).kv_store(store(elsewhere.path()).prefill_server(login))).await;
    assert!(error.contains("@host:1234") && !error.contains("secret"), "{error}");
}

/// Its answer would have to be read from the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefill_server_is_not_asked_while_the_store_fails() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    // No Redis listens there.
    let store = KvStoreOptions::new("redis://127.0.0.1:1").unwrap().always_read(true);
    let store = store.prefill_server(PrefillServerOptions::new(url).threshold(64));
    let decode = engine(&options(&model).block_size(BLOCK_SIZE).kv_store(store)).await;
    for seed in 1..6 {
        let request = || Request::tokens(prompt(seed, 100)).max_tokens(4);
        let answer = decode.answer(request()).await.unwrap();
        assert_eq!(answer.text, answer_alone(&model, request()).await);
    }
    let asked = tokio::time::timeout(Duration::from_millis(1), server.accept()).await;
    assert!(asked.is_err(), "the prefill server was asked");
}

/// A prompt that the store has and that does not fit into the memory for reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefill_server_is_not_asked_for_blocks_without_memory() {
    let config = random_model::with(random_model::air(), |json| {
        json["max_position_embeddings"] = json!(2048);
        json["head_dim"] = json!(64);
    });
    let model = random_model::folder(&config);
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let request = || Request::tokens(prompt(1, 1500)).max_tokens(2);
    let first = engine(&with_store(&model, folder.path())).await;
    let expected = first.answer(request()).await.unwrap().text;
    first.flush_kv_store().await;
    let files = block_files(folder.path());
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes > 1 << 20, "{bytes} bytes fit into the memory");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = PrefillServerOptions::new(url).threshold(64).timeout(Duration::from_secs(5));
    let store = store(folder.path()).buffer_mib(1).prefill_server(server);
    let decode = engine(&options(&model).block_size(BLOCK_SIZE).kv_store(store)).await;
    let answer = decode.answer(request()).await.unwrap();
    assert_eq!(answer.text, expected);
    let cached = answer.usage.cached_tokens;
    assert!(cached > 0 && cached < 1488, "{cached} tokens were read");
    let asked = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(asked.is_err(), "the prefill server was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_prompt_does_not_keep_others_from_the_prefill_server() {
    let model = random_model::folder(&random_model::colm());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let options = with_store(&model, folder.path()).max_chains(1);
    let (_prefill, url) = prefill_server(&options).await;
    let decode = decoding(&model, folder.path(), &url).await;
    for (seed, k, cached) in [(1, 2, 0), (2, 1, 96)] {
        let request = Request::tokens(prompt(seed, 100)).chains(chain_count(k)).max_tokens(2);
        let answer = decode.answer(request).await.unwrap();
        assert_eq!(answer.usage.cached_tokens, cached, "k = {k}");
    }
}

/// As a store that deletes what was not used for long does.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_the_store_has_lost_are_written_again() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&with_store(&model, folder.path())).await;
    for _ in 0..2 {
        let body = json!({"prompt": prompt(1, 100)});
        let (_, body) = send(&engine, "/v1/prefill", body).await;
        assert_eq!(body["stored_tokens"], 96, "{body}");
        let files = block_files(folder.path());
        assert_eq!(files.len(), 6);
        for file in [&files[0], &files[3], &files[5]] {
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// The response of the prefill server of an engine with `options`.
async fn send(engine: &Engine, path: &str, body: Value) -> (http::StatusCode, Value) {
    let serving = ServeOptions::default().role(Role::Prefill);
    let router = colm::serve::router(engine, serving).unwrap();
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefill_server_takes_chats_and_completions() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&with_store(&model, folder.path())).await;
    let two = json!({"prompt": [prompt(1, 100), prompt(2, 40)], "n": 3, "stream": true});
    let (status, body) = send(&engine, "/v1/prefill", two).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!((&body["object"], &body["stored_tokens"]), (&json!("prefill"), &json!(96 + 32)));
    assert_eq!(body["usage"]["prompt_tokens"], 140);
    assert_eq!(body["usage"]["completion_tokens"], 0);
    assert_eq!(block_files(folder.path()).len(), 8);
    // The answer waits for every block, also for one that enters the prefix cache meanwhile.
    for seed in 3..40 {
        let (_, body) = send(&engine, "/v1/prefill", json!({"prompt": prompt(seed, 100)})).await;
        assert_eq!(body["stored_tokens"], 96, "{body}");
    }
    let text = "word ".repeat(20);
    let chat = json!({"messages": [{"role": "user", "content": text}]});
    let (status, body) = send(&engine, "/v1/prefill", chat).await;
    assert_eq!(status, 200, "{body}");
    assert!(body["stored_tokens"].as_u64().unwrap() > 0, "{body}");
    let (status, body) = send(&engine, "/v1/prefill", json!({"prompt": [1], "promt": 1})).await;
    assert_eq!((status.as_u16(), &body["error"]["param"]), (400, &json!("promt")), "{body}");
    let (status, _) = send(&engine, "/v1/completions", json!({"prompt": [1]})).await;
    assert_eq!(status, 404, "it gives no answers");
}
