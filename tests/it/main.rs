//! All tests that need the host, in one binary, because linking the host takes long.

mod bad_input;
mod causality;
mod cli;
mod concurrency;
mod conversation;
mod convert;
mod dtypes;
mod echo;
mod examples;
#[cfg(unix)]
mod folders;
mod golden;
mod http;
mod hub;
mod isolation;
mod kv_store;
mod leaving;
mod llama;
mod malformed;
#[cfg(unix)]
mod mutations;
mod openai_api;
mod prefill;
mod processes;
mod quantized;
mod registry;
mod responses;
mod sampled;
mod speculation;
#[cfg(unix)]
mod template_input;
mod token_choice;
#[cfg(unix)]
mod tokenizers;
mod trainer;
