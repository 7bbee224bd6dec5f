//! A model of one chain gives the same logits as the host's own Llama with the same weights.

use candle_core::{DType, Tensor};
use colm_testing::comparison::largest_magnitude;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::host_llama;
use colm_testing::random_model::{self, token_ids, with};
use mistralrs_core::{
    Constraint, MistralRs, ModelDType, NormalRequest, Request, RequestMessage, Response,
    SamplingParams,
};
use serde_json::{json, Value};

pub async fn host_logits(host: &MistralRs, tokens: Vec<u32>) -> Tensor {
    let (response, mut responses) = tokio::sync::mpsc::channel(1);
    let request = NormalRequest {
        return_raw_logits: true,
        constraint: Constraint::None,
        ..NormalRequest::new_simple(
            RequestMessage::CompletionTokens(tokens),
            SamplingParams { max_len: Some(1), ..SamplingParams::deterministic() },
            response,
            host.next_request_id(),
            None,
            None,
        )
    };
    host.get_sender(None).unwrap().send(Request::Normal(Box::new(request))).await.unwrap();
    match responses.recv().await.unwrap() {
        Response::Raw { logits_chunks, .. } => Tensor::cat(&logits_chunks, 0).unwrap(),
        _ => panic!("the host has no logits"),
    }
}

async fn assert_one_chain_equals_the_hosts_llama(config: Value) {
    let folder = tempfile::tempdir().unwrap();
    host_llama::write_both(folder.path(), &config);
    let tokens = token_ids(100);
    let llama =
        host_llama::engine(&folder.path().join("llama"), ModelDType::F32, None, 1).await.unwrap();
    let expected = host_logits(&llama, tokens.clone()).await;
    let options = options(&folder.path().join("colm")).prefix_cache(false);
    let found = engine(&options).await.logits(tokens, chain_count(1)).await.unwrap();
    let difference = (expected.to_dtype(DType::F32).unwrap() - found).unwrap();
    let difference = largest_magnitude(difference.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert!(difference <= 1e-4, "logits differ by {difference}");
}

fn one_chain(config: Value) -> Value {
    with(config, |json| {
        json["chains"] = json!([1]);
        // The host's Llama has no head_dim field: hidden_size / num_attention_heads.
        json["head_dim"] = json!(8);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn grouped_query_attention() {
    assert_one_chain_equals_the_hosts_llama(one_chain(random_model::air())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tied_embeddings_and_rope_scaling() {
    let config = with(one_chain(random_model::colm()), |json| {
        json["tie_word_embeddings"] = json!(true);
        json["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32
        });
    });
    assert_one_chain_equals_the_hosts_llama(config).await;
}
