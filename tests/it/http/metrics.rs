//! `/metrics`, and the counts in `usage`.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use colm::serve::ServeOptions;
use colm::{EngineBuilder, KvStoreOptions};
use serde_json::json;

use super::{question, Server, CHAT};

/// The samples of `/metrics`: name with labels, and value.
async fn samples(server: &Server) -> BTreeMap<String, f64> {
    let (status, text) = server.send(Method::GET, "/metrics", String::new()).await;
    assert_eq!(status, StatusCode::OK);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_string(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_counted_by_chains() {
    let server = Server::start().await;
    let before = samples(&server).await;
    assert_eq!(before[r#"colm:generation_tokens_total{chains="4"}"#], 0.0);
    let fields = json!({"max_tokens": 7, "logit_bias": {"0": -100}});
    for chains in [1, 4, 4] {
        let fields = super::with(fields.clone(), |fields| fields["chains"] = chains.into());
        let (_, body) = server.post(CHAT, &question(fields)).await;
        assert_eq!(body["usage"]["chains"], json!({ chains.to_string(): 7 }), "{body}");
        assert_eq!(body["usage"]["completion_tokens_details"]["accepted_prediction_tokens"], 0);
    }
    let (status, _) = server.post(CHAT, &json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let after = samples(&server).await;
    let value = |name: &str| *after.get(name).unwrap_or_else(|| panic!("no {name} in {after:#?}"));
    assert_eq!(value(r#"colm:generation_tokens_total{chains="4"}"#), 14.0);
    assert_eq!(value(r#"colm:generation_tokens_total{chains="1"}"#), 7.0);
    assert_eq!(value(r#"colm:request_success_total{chains="4",finished_reason="length"}"#), 2.0);
    assert_eq!(value(r#"colm:time_to_first_token_seconds_count{chains="4"}"#), 2.0);
    assert_eq!(value(r#"colm:time_per_output_token_seconds_count{chains="1"}"#), 1.0);
    assert_eq!(value(r#"colm:e2e_request_latency_seconds_count{chains="1"}"#), 1.0);
    assert_eq!(
        value(r#"colm:http_requests_total{route="/v1/chat/completions",status="200"}"#),
        3.0
    );
    assert_eq!(
        value(r#"colm:http_requests_total{route="/v1/chat/completions",status="400"}"#),
        1.0
    );
    let (bucket, all) = (r#"colm:e2e_request_latency_seconds_bucket{chains="1",le="+Inf"}"#, 1.0);
    assert_eq!(value(bucket), all);
}

/// A tiny prompt of an Air: chains 2 to 4 compute one row of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_is_seen_from_outside() {
    let server = Server::start().await;
    let before = samples(&server).await;
    let body = json!({"prompt": vec![1; 40], "max_tokens": 3, "chains": 4});
    for _ in 0..2 {
        let (status, _) = server.post("/v1/completions", &body).await;
        assert_eq!(status, StatusCode::OK);
    }
    let after = samples(&server).await;
    let more = |name: &str| after[name] - before[name];
    assert_eq!(more("colm:prefix_cache_queries_total"), 80.0);
    assert_eq!(more("colm:prefix_cache_hits_total"), 32.0);
    let work = more("colm:prompt_multiply_adds_total");
    let saved = more("colm:prompt_multiply_adds_saved_total");
    assert!(saved > work, "{saved} were saved, {work} computed");
    // The engine reports after the step, whose answer may come before.
    for idle in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
        let name = format!("colm:{idle}");
        let began = std::time::Instant::now();
        while samples(&server).await[&name] > 0.0 {
            assert!(began.elapsed().as_secs() < 10, "{name} stays above 0");
        }
    }
    assert_eq!(more("colm:num_preemptions_total"), 0.0);
    assert!(after["colm:model_load_seconds"] > 0.0);
}

/// Every name that the dashboard of docs/ asks for is served.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_numbers_that_exist() {
    let store = KvStoreOptions::new("memory:").unwrap();
    let with_store = |builder: EngineBuilder| builder.kv_store(store);
    let server = Server::with_engine(ServeOptions::default(), with_store).await;
    server.answer(json!({})).await;
    let samples = samples(&server).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/grafana.json");
    let dashboard = std::fs::read_to_string(path).unwrap();
    let names = dashboard.split("colm:").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        format!("colm:{}", &rest[..end])
    });
    let names: std::collections::BTreeSet<String> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let served = samples.keys().any(|sample| sample.split('{').next() == Some(name.as_str()));
        assert!(served, "{name} is not served: {:?}", samples.keys());
    }
}
