//! The conversions.
//!
//! A conversion reads a [`Source`](crate::Source) and returns a [`ConversionPlan`]: for every tensor of the new
//! checkpoint, where its values come from. [`ConversionPlan::write`] is the only code that moves weights.

mod as_llama;
mod cast;
mod expand;
mod expand_error;
mod extract;
mod gaussian;
mod growth;
mod layouts;
mod nearest_chain;
mod new_chain;
mod plan;
mod python_code;
mod ratios;

pub use as_llama::as_llama;
pub use cast::cast;
pub use expand::{expand, Init};
pub use expand_error::ExpandError;
pub use extract::extract;
#[doc(hidden)] // for the trainer
pub use gaussian::box_muller;
pub use gaussian::Gaussian;
pub(crate) use gaussian::GaussianRows;
pub use growth::expanded_config;
pub use layouts::{dropped_values, to_chain_layout, to_dense_layout, DroppedValues};
pub use nearest_chain::nearest_chain;
pub use new_chain::{Growth, NewChain};
pub use plan::{ConversionPlan, Fill, PlannedFile, PlannedTensor, Rectangle};
pub use ratios::{Indivisible, NearestRatios};
