//! The CUDA kernels on the twin, against formulas in f64 and against the CPU kernels. One binary, so that the modules
//! with the formulas and the launches are compiled once.

mod attention;
mod decode_stacks;
mod emulator;
mod half_float;
mod kv_write;
mod linear;
mod linear_case;
mod norm;
mod output;
mod paged;
mod tensors;
