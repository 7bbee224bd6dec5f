//! The functions of this crate on the CPU.

pub(crate) mod attention;
pub(crate) mod element;
pub(crate) mod exp;
pub(crate) mod instructions;
pub(crate) mod k_quants;
pub(crate) mod key_tile;
pub(crate) mod outer;
pub(crate) mod panels;
pub(crate) mod prefetch;
pub(crate) mod product;
pub(crate) mod q4_q5;
pub(crate) mod q4k_q5k;
pub(crate) mod q6k;
pub(crate) mod q8;
pub(crate) mod quantized;
pub(crate) mod rectangles;
pub(crate) mod register;
pub(crate) mod rows;
pub(crate) mod sweep;
pub(crate) mod team;
pub(crate) mod tiles;

pub(crate) use element::{for_dtype, Element};
pub(crate) use quantized::{for_quantized, Quantized};
pub(crate) use rows::Rows;
