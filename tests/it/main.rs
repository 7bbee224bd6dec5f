//! One binary for all tests that need the host: linking it is what takes long.

mod alone;
mod bad_input;
mod causality;
mod cli;
mod common;
mod concurrency;
mod conversation;
mod convert;
mod echo;
mod examples;
mod golden;
mod host_llama;
mod http;
mod hub;
mod llama;
mod prefill;
mod quantized;
mod random_model;
mod registry;
mod speculation;
mod trainer;
