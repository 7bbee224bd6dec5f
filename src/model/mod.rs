//! The model, without the host's engine.
//!
//! Read [`colm`] first: [`Colm::forward`] takes a [`Step`] through [`embedding`], the [`decoder_layer`]s
//! ([`norm`], [`attention`] and an MLP of [`linear`] layers) and the [`lm_head`]. [`active_rows`] says which rows
//! each chain computes, [`step`] what a forward pass reads, and [`speculation`] drafts tokens with the first
//! chain.
//!
//! Of the host's crates only `mistralrs-quant` is used here: it loads weights and multiplies with the quantized
//! ones that colm has no kernels for.

pub mod active_rows;
pub mod attention;
mod chain_tensors;
pub mod colm;
pub mod decoder_layer;
pub mod embedding;
pub mod host_linears;
pub mod layer_weights;
pub mod linear;
pub mod lm_head;
pub mod norm;
pub mod representation;
pub mod speculation;
pub mod step;
mod trial;

pub use active_rows::{ActiveRows, SequenceRows};
pub use colm::Colm;
pub use layer_weights::WeightSource;
pub use representation::Representation;
pub use step::{SequenceInput, Step};
