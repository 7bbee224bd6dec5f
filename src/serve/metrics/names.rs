//! The metrics: names, what they mean, and the buckets of the histograms.

use metrics::{describe_counter, describe_gauge, describe_histogram};

use crate::Engine;

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

/// From a table of metrics: their names as constants, `BUCKETS` and `describe`.
macro_rules! metrics {
    ($($kind:ident $(($buckets:ident))? $name:ident = $text:literal, $help:literal;)+) => {
        $(#[doc = $help] pub const $name: &str = $text;)+

        /// The buckets of each histogram.
        pub const BUCKETS: &[(&str, &[f64])] = &[$($(($name, $buckets),)?)+];

        /// Gives the recorder the help texts.
        pub fn describe() {
            $(describe!($kind, $name, $help);)+
        }
    };
}

macro_rules! describe {
    (counter, $name:ident, $help:literal) => {
        describe_counter!($name, $help)
    };
    (gauge, $name:ident, $help:literal) => {
        describe_gauge!($name, $help)
    };
    (histogram, $name:ident, $help:literal) => {
        describe_histogram!($name, $help)
    };
}

metrics! {
    gauge RUNNING = "colm:num_requests_running",
        "Answers that the engine computes.";
    gauge WAITING = "colm:num_requests_waiting",
        "Answers that wait for KV blocks or for one of the sequences that run.";
    gauge KV_CACHE_USAGE = "colm:kv_cache_usage_perc",
        "The part of the KV blocks that running answers have, from 0 to 1.";
    counter PREEMPTIONS = "colm:num_preemptions_total",
        "How often a running answer has lost its KV blocks to another one.";
    counter PREFIX_QUERIES = "colm:prefix_cache_queries_total",
        "Prompt tokens that were looked up in the prefix cache.";
    counter PREFIX_HITS = "colm:prefix_cache_hits_total",
        "Prompt tokens that were found in the prefix cache.";
    counter PREFIX_EVICTIONS = "colm:prefix_cache_evictions_total",
        "KV blocks of the prefix cache that were given to other tokens.";
    counter DRAFTED = "colm:spec_decode_num_draft_tokens_total",
        "Tokens that the first chain has drafted.";
    counter ACCEPTED = "colm:spec_decode_num_accepted_tokens_total",
        "Drafted tokens that were accepted.";
    counter PROMPT_WORK = "colm:prompt_multiply_adds_total",
        "Multiply-adds of linear layers for prompts.";
    counter PROMPT_WORK_SAVED = "colm:prompt_multiply_adds_saved_total",
        "Multiply-adds of linear layers that prefix-chain prefill has saved.";
    counter STEPS = "colm:steps_total",
        "Forward passes of the model.";
    counter PROMPT_TOKENS = "colm:prompt_tokens_total",
        "Prompt tokens of answers, by chain count.";
    counter GENERATION_TOKENS = "colm:generation_tokens_total",
        "Sampled tokens, by chain count.";
    histogram(SECONDS) TIME_TO_FIRST_TOKEN = "colm:time_to_first_token_seconds",
        "From the arrival of a request to its first token.";
    histogram(TOKEN_SECONDS) TIME_PER_OUTPUT_TOKEN = "colm:time_per_output_token_seconds",
        "Mean time between the tokens of an answer.";
    histogram(SECONDS) END_TO_END = "colm:e2e_request_latency_seconds",
        "From the arrival of a request to the end of its answer.";
    histogram(SECONDS) PREFILL_TIME = "colm:request_prefill_time_seconds",
        "From the first step of a prompt to its first token.";
    histogram(SECONDS) DECODE_TIME = "colm:request_decode_time_seconds",
        "From the first token of an answer to its last.";
    histogram(TOKENS) REQUEST_PROMPT_TOKENS = "colm:request_prompt_tokens",
        "Prompt tokens of an answer.";
    histogram(TOKENS) REQUEST_GENERATION_TOKENS = "colm:request_generation_tokens",
        "Tokens of an answer.";
    counter REQUEST_SUCCESS = "colm:request_success_total",
        "Answers by how they have ended: stop, length, abort (the client has left) or error.";
    counter HTTP_REQUESTS = "colm:http_requests_total",
        "Responses by route and status.";
    counter KV_STORE_READS = "colm:kv_store_reads_total",
        "Prompts whose blocks were looked up in the KV store.";
    counter KV_STORE_READ_MILLISECONDS = "colm:kv_store_read_milliseconds_total",
        "Time that prompts have waited for the KV store.";
    counter KV_STORE_SKIPPED_READS = "colm:kv_store_skipped_reads_total",
        "Prompts that were not looked up, because computing them is faster or because too many others were being read.";
    counter KV_STORE_LOADED_BLOCKS = "colm:kv_store_loaded_blocks_total",
        "KV blocks from the store that did not have to be computed.";
    counter KV_STORE_READ_BLOCKS = "colm:kv_store_read_blocks_total",
        "KV blocks that were read from the store.";
    counter KV_STORE_MISSING_BLOCKS = "colm:kv_store_missing_blocks_total",
        "KV blocks that the store did not have.";
    counter KV_STORE_DAMAGED_BLOCKS = "colm:kv_store_damaged_blocks_total",
        "KV blocks of the store that did not verify and were not used.";
    counter KV_STORE_TIMED_OUT_READS = "colm:kv_store_timed_out_reads_total",
        "Prompts for which the store took longer than --kv-store-timeout.";
    counter KV_STORE_FAILED_READS = "colm:kv_store_failed_reads_total",
        "Reads that the store has failed.";
    counter KV_STORE_WRITTEN_BLOCKS = "colm:kv_store_written_blocks_total",
        "KV blocks that were written to the store.";
    counter KV_STORE_FAILED_WRITES = "colm:kv_store_failed_writes_total",
        "Writes that the store has failed.";
    counter KV_STORE_DROPPED_BLOCKS = "colm:kv_store_dropped_blocks_total",
        "KV blocks that were not written because too many others were waiting.";
    counter KV_STORE_EVICTED_BLOCKS = "colm:kv_store_evicted_blocks_total",
        "KV blocks that this process has deleted from a file store to stay within its size.";
    counter REMOTE_PREFILLS = "colm:remote_prefills_total",
        "Prompts that the prefill server was asked for.";
    counter FAILED_REMOTE_PREFILLS = "colm:failed_remote_prefills_total",
        "Prompts that the prefill server was asked for and did not compute.";
    counter KV_STORE_READ_BYTES = "colm:kv_store_read_bytes_total",
        "Bytes of KV blocks that were read from the store.";
    counter KV_STORE_WRITTEN_BYTES = "colm:kv_store_written_bytes_total",
        "Bytes of KV blocks that were written to the store.";
    gauge KV_STORE_READ_CIRCUIT_OPEN = "colm:kv_store_read_circuit_open",
        "1 while nothing is read from the store because it has failed several times, else 0.";
    gauge KV_STORE_WRITE_CIRCUIT_OPEN = "colm:kv_store_write_circuit_open",
        "1 while nothing is written to the store because it has failed several times, else 0.";
    gauge KV_STORE_QUEUED_BYTES = "colm:kv_store_queued_bytes",
        "Bytes of KV blocks that wait to be written.";
    gauge LOAD_TIME = "colm:model_load_seconds",
        "How long loading the model took.";
    gauge BUILD_INFO = "colm:build_info",
        "1, with the versions as labels.";
    gauge CACHE_CONFIG = "colm:cache_config_info",
        "1, with the KV cache as labels.";
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
