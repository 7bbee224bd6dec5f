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
mod checkpoint_source;
pub mod colm;
pub mod decoder_layer;
pub mod embedding;
pub mod host_linears;
mod host_source;
pub mod linear;
pub mod lm_head;
pub mod norm;
pub mod representation;
pub mod speculation;
pub mod step;
mod trial;
pub mod weight_source;

pub use active_rows::{ActiveRows, SequenceRows};
pub use checkpoint_source::CheckpointSource;
pub use colm::Colm;
pub use host_source::HostSource;
pub use representation::Representation;
pub use step::{SequenceInput, Step};
pub use weight_source::{LoadOptions, Packing, WeightSource};
