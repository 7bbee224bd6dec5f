//! The CPU backend.
//!
//! | module | contents |
//! |---|---|
//! | [`arch`] | instruction sets: SIMD vectors, micro-kernels, dispatch at run time |
//! | [`gemm`] | matrix products over packed panels |
//! | [`quant`] | ggml's quantized weights as packed rhs panels |
//! | [`attention`] | attention over the paged KV cache |
//! | [`huge_pages`] | memory for weights |
//! | [`kv_layout`] | the order of the numbers in a KV block |
//! | [`thread_pool`] | the workers that share a step's work |
//! | [`element`], [`exp`], [`tensor_rows`] | dtypes, the exponential function, tensors as rows |

pub(crate) mod arch;
pub(crate) mod attention;
pub(crate) mod element;
pub(crate) mod exp;
pub(crate) mod gemm;
pub(crate) mod huge_pages;
pub(crate) mod kv_layout;
pub(crate) mod quant;
pub(crate) mod tensor_rows;
pub(crate) mod thread_pool;

pub(crate) use element::{for_dtype, Element};
pub(crate) use quant::{for_quantized, Quantized};
pub(crate) use tensor_rows::TensorRows;
