//! Every public function of the crate, against its formula in f64 or its documented guarantees.

mod attention;
mod kv_blocks;
mod linear;
mod matmul_precision;
mod quantized;
mod reference;
mod reproducible;
mod rowwise;
