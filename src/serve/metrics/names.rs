//! The names of the metrics, what they mean, and the buckets of the histograms.

use metrics::{describe_counter, describe_gauge, describe_histogram};

use crate::Engine;

pub const RUNNING: &str = "colm:num_requests_running";
pub const WAITING: &str = "colm:num_requests_waiting";
pub const KV_CACHE_USAGE: &str = "colm:kv_cache_usage_perc";
pub const PREEMPTIONS: &str = "colm:num_preemptions_total";
pub const PREFIX_QUERIES: &str = "colm:prefix_cache_queries_total";
pub const PREFIX_HITS: &str = "colm:prefix_cache_hits_total";
pub const PREFIX_EVICTIONS: &str = "colm:prefix_cache_evictions_total";
pub const DRAFTED: &str = "colm:spec_decode_num_draft_tokens_total";
pub const ACCEPTED: &str = "colm:spec_decode_num_accepted_tokens_total";
pub const PROMPT_WORK: &str = "colm:prompt_multiply_adds_total";
pub const PROMPT_WORK_SAVED: &str = "colm:prompt_multiply_adds_saved_total";
pub const STEPS: &str = "colm:steps_total";
pub const PROMPT_TOKENS: &str = "colm:prompt_tokens_total";
pub const GENERATION_TOKENS: &str = "colm:generation_tokens_total";
pub const TIME_TO_FIRST_TOKEN: &str = "colm:time_to_first_token_seconds";
pub const TIME_PER_OUTPUT_TOKEN: &str = "colm:time_per_output_token_seconds";
pub const END_TO_END: &str = "colm:e2e_request_latency_seconds";
pub const PREFILL_TIME: &str = "colm:request_prefill_time_seconds";
pub const DECODE_TIME: &str = "colm:request_decode_time_seconds";
pub const REQUEST_PROMPT_TOKENS: &str = "colm:request_prompt_tokens";
pub const REQUEST_GENERATION_TOKENS: &str = "colm:request_generation_tokens";
pub const REQUEST_SUCCESS: &str = "colm:request_success_total";
pub const HTTP_REQUESTS: &str = "colm:http_requests_total";
const LOAD_TIME: &str = "colm:model_load_seconds";
const BUILD_INFO: &str = "colm:build_info";
const CACHE_CONFIG: &str = "colm:cache_config_info";

const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
];
const TOKEN_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
    20_000.0, 50_000.0, 100_000.0,
];

/// The buckets of each histogram.
pub const BUCKETS: &[(&str, &[f64])] = &[
    (TIME_TO_FIRST_TOKEN, SECONDS),
    (END_TO_END, SECONDS),
    (PREFILL_TIME, SECONDS),
    (DECODE_TIME, SECONDS),
    (TIME_PER_OUTPUT_TOKEN, TOKEN_SECONDS),
    (REQUEST_PROMPT_TOKENS, TOKENS),
    (REQUEST_GENERATION_TOKENS, TOKENS),
];

/// The help texts.
pub fn describe() {
    describe_gauge!(RUNNING, "Answers that the engine computes.");
    describe_gauge!(
        WAITING,
        "Answers that wait for KV blocks or for one of the sequences that run."
    );
    describe_gauge!(
        KV_CACHE_USAGE,
        "The part of the KV blocks that running answers have, from 0 to 1."
    );
    describe_counter!(
        PREEMPTIONS,
        "How often a running answer has lost its KV blocks to another one."
    );
    describe_counter!(PREFIX_QUERIES, "Prompt tokens that were looked up in the prefix cache.");
    describe_counter!(PREFIX_HITS, "Prompt tokens that were found in the prefix cache.");
    describe_counter!(
        PREFIX_EVICTIONS,
        "KV blocks of the prefix cache that were given to other tokens."
    );
    describe_counter!(DRAFTED, "Tokens that the first chain has drafted.");
    describe_counter!(ACCEPTED, "Drafted tokens that were accepted.");
    describe_counter!(PROMPT_WORK, "Multiply-adds of linear layers for prompts.");
    describe_counter!(
        PROMPT_WORK_SAVED,
        "Multiply-adds of linear layers that prefix-chain prefill has saved."
    );
    describe_counter!(STEPS, "Forward passes of the model.");
    describe_counter!(PROMPT_TOKENS, "Prompt tokens of answers, by number of chains.");
    describe_counter!(GENERATION_TOKENS, "Tokens of answers, by number of chains.");
    describe_histogram!(TIME_TO_FIRST_TOKEN, "From the arrival of a request to its first token.");
    describe_histogram!(TIME_PER_OUTPUT_TOKEN, "Mean time between the tokens of an answer.");
    describe_histogram!(END_TO_END, "From the arrival of a request to the end of its answer.");
    describe_histogram!(PREFILL_TIME, "From the first step of a prompt to its first token.");
    describe_histogram!(DECODE_TIME, "From the first token of an answer to its last.");
    describe_histogram!(REQUEST_PROMPT_TOKENS, "Prompt tokens of an answer.");
    describe_histogram!(REQUEST_GENERATION_TOKENS, "Tokens of an answer.");
    describe_counter!(
        REQUEST_SUCCESS,
        "Answers by how they have ended: stop, length, abort (the client has left) or error."
    );
    describe_counter!(HTTP_REQUESTS, "Responses by route and status.");
    describe_gauge!(LOAD_TIME, "How long loading the model took.");
    describe_gauge!(BUILD_INFO, "1, with the versions as labels.");
    describe_gauge!(CACHE_CONFIG, "1, with the KV cache as labels.");
}

/// Sets the numbers that do not change.
pub fn constants(engine: &Engine) {
    metrics::gauge!(LOAD_TIME).set(engine.load_time().as_secs_f64());
    let version = [("version", env!("CARGO_PKG_VERSION")), ("host", "mistral.rs 0.8.1")];
    metrics::gauge!(BUILD_INFO, &version).set(1.0);
    let cache = [
        ("block_size", engine.block_size().to_string()),
        ("max_tokens", engine.max_tokens().to_string()),
        ("max_seqs", engine.max_seqs().to_string()),
        ("chains", engine.loaded_chains().to_string()),
    ];
    metrics::gauge!(CACHE_CONFIG, &cache).set(1.0);
}
