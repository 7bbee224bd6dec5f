//! The model and the engine on the CUDA kernels, in bf16 and f16, against the same model in f32 on the CPU kernels,
//! which the golden cases test.
//!
//!     cargo test --features cuda --test gpu     on a GPU
//!     cargo test --features twin --test gpu     on the CPU, which runs the kernels thread by thread

mod engine;
mod model;
mod models;
