//! How fast prompts and answers are at every chain count, against the host's own Llama of the same
//! width: random weights, f32, one request at a time, each model in turn in every round.
//!
//!     cargo bench --bench against_llama
//!
//! Prints milliseconds as medians over the rounds, and the ratios to the Llama of the same run. The Llama runs in
//! this binary, so on the patched host; the hook changes nothing on its way (host/README.md).

#[path = "../tests/it/common.rs"]
#[allow(dead_code)]
mod common;
#[path = "../tests/it/host_llama.rs"]
mod host_llama;
#[path = "../tests/it/random_model.rs"]
#[allow(dead_code)]
mod random_model;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use colm::{Engine, EngineOptions};
use colm_checkpoint::ColmConfig;
use mistralrs_core::{
    Constraint, MistralRs, NormalRequest, Request, RequestMessage, Response, SamplingParams,
};
use serde_json::{json, Value};

const PROMPTS: [usize; 2] = [1024, 2048];
const NEW_TOKENS: usize = 32;
const ROUNDS: usize = 5;
const VOCAB: usize = 8192;

/// A model at one chain count, or the host's Llama.
struct Contender {
    name: String,
    host: Arc<MistralRs>,
    model_id: Option<String>,
    /// Bytes of weights that a decoded token reads.
    bytes: usize,
    /// Per prompt length and round: milliseconds of the prompt, and of a decoded token.
    times: Vec<Vec<(f64, f64)>>,
}

fn config(architecture: &str, chains: &[usize]) -> Value {
    json!({
        "architectures": [architecture],
        "model_type": if architecture.contains("Air") { "colm_air" } else { "colm" },
        "chains": chains,
        "vocab_size": VOCAB,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "eos_token_id": 0,
        "torch_dtype": "float32"
    })
}

/// Bytes of the linear layers and the head at `k` chains, f32: what a decoded token reads.
fn bytes_read(config: &Value, k: usize) -> usize {
    let config = ColmConfig::parse(&config.to_string()).unwrap();
    let matrices = config.tensors(k).filter(|tensor| tensor.shape().len() == 2);
    let read = matrices.filter(|tensor| !tensor.name().contains("embed_tokens"));
    read.map(|tensor| tensor.shape().iter().product::<usize>() * 4).sum()
}

async fn engine(folder: &Path) -> Engine {
    let options = EngineOptions {
        prefix_cache: false,
        ignore_eos: true,
        kv_cache_mb: 256,
        ..EngineOptions::new(folder.to_string_lossy())
    };
    Engine::start(&options).await.unwrap()
}

/// Milliseconds from the request to the first new token, and per token from there to the last.
async fn time(contender: &Contender, tokens: Vec<u32>) -> (f64, f64) {
    let (response, mut responses) = tokio::sync::mpsc::channel(2 * NEW_TOKENS);
    let request = NormalRequest {
        model_id: contender.model_id.clone(),
        is_streaming: true,
        constraint: Constraint::None,
        ..NormalRequest::new_simple(
            RequestMessage::CompletionTokens(tokens),
            SamplingParams { max_len: Some(1 + NEW_TOKENS), ..SamplingParams::deterministic() },
            response,
            contender.host.next_request_id(),
            None,
            None,
        )
    };
    let sender = contender.host.get_sender(None).unwrap();
    let start = Instant::now();
    sender.send(Request::Normal(Box::new(request))).await.unwrap();
    let (mut first, mut last) = (None, start);
    while let Some(response) = responses.recv().await {
        match response {
            Response::CompletionChunk(_) => last = Instant::now(),
            other => panic!("{}: {}", contender.name, other.as_result().err().unwrap()),
        }
        first.get_or_insert(last);
    }
    let first = first.expect("an answer has at least one token");
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    (ms(start, first), ms(first, last) / NEW_TOKENS as f64)
}

fn prompt(length: usize, round: usize) -> Vec<u32> {
    (0..length).map(|at| (1 + (at * at + 31 * at + 977 * round) % (VOCAB - 1)) as u32).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn contenders(folder: &Path) -> Vec<(Contender, Option<Engine>)> {
    let dense = config("CoLMForCausalLM", &[1]);
    host_llama::write_both(folder, &dense);
    let llama = host_llama::engine(&folder.join("llama"), 1).await;
    let bytes = bytes_read(&dense, 1);
    let contender = |name: String, host: &Arc<MistralRs>, model_id, bytes| Contender {
        name,
        host: host.clone(),
        model_id,
        bytes,
        times: vec![Vec::new(); PROMPTS.len()],
    };
    let mut all = vec![(contender("host Llama".into(), &llama, None, bytes), None)];
    let models: [(&str, &str, &[usize]); 5] = [
        ("colm", "CoLMForCausalLM", &[1]),
        ("Air", "CoLMAirForCausalLM", &[1, 1]),
        ("Air", "CoLMAirForCausalLM", &[1, 1, 1, 1]),
        ("CoLM", "CoLMForCausalLM", &[1, 1]),
        ("CoLM", "CoLMForCausalLM", &[1, 1, 1, 1]),
    ];
    for (name, architecture, chains) in models {
        let config = config(architecture, chains);
        let model: PathBuf = folder.join(format!("{architecture}-{}", chains.len()));
        random_model::write(&model, &config, |_| 0);
        let engine = engine(&model).await;
        let host = engine.host().clone();
        for k in 1..=chains.len() {
            let model_id = Some(format!("{}@{k}", engine.name()));
            let name = format!("{name} {chains:?} k={k}");
            all.push((contender(name, &host, model_id, bytes_read(&config, k)), None));
        }
        all.last_mut().unwrap().1 = Some(engine);
    }
    all
}

fn report(contenders: &[(Contender, Option<Engine>)]) {
    println!(
        "{:24} {:>6} {:>12} {:>12} {:>12} {:>14}",
        "model", "prompt", "prefill ms", "Llama / it", "decode ms", "of its bytes"
    );
    for (index, length) in PROMPTS.iter().enumerate() {
        let medians = |contender: &Contender| {
            let times = &contender.times[index];
            let prefill = median(times.iter().map(|time| time.0).collect());
            (prefill, median(times.iter().map(|time| time.1).collect()))
        };
        let llama = &contenders[0].0;
        let (llama_prefill, llama_decode) = medians(llama);
        for (contender, _) in contenders {
            let (prefill, decode) = medians(contender);
            let share = contender.bytes as f64 / llama.bytes as f64;
            println!(
                "{:24} {length:>6} {prefill:>12.1} {:>11.2}x {decode:>12.2} {:>13.2}x",
                contender.name,
                llama_prefill / prefill,
                decode / (llama_decode * share),
            );
        }
    }
    println!(
        "prefill: {} tokens to the first new one. decode: per token, over {NEW_TOKENS}; \"of its bytes\" is its time \
         over (the Llama's time x the share of the Llama's weight bytes it reads). Medians of {ROUNDS} rounds.",
        PROMPTS.map(|length| length.to_string()).join(" or ")
    );
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut contenders = contenders(folder.path()).await;
    for round in 0..ROUNDS {
        for (index, length) in PROMPTS.into_iter().enumerate() {
            for (contender, _) in &mut contenders {
                eprintln!("round {} of {ROUNDS}, {length} tokens: {}", round + 1, contender.name);
                let times = time(contender, prompt(length, round)).await;
                contender.times[index].push(times);
            }
        }
    }
    report(&contenders);
}
