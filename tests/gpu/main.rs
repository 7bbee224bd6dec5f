//! The model and the engine on the kernels of a GPU, in bf16 and f16, against the same model in f32 on the
//! kernels of the CPU, which the other tests hold to the golden cases.
//!
//!     cargo test --features cuda --test gpu     needs a GPU
//!     cargo test --features twin --test gpu     none: the kernels run on the CPU, thread for thread

mod engine;
mod model;
mod models;
