//! The conversions.
//!
//! A conversion reads a [`Source`](crate::Source) and returns a [`ConversionPlan`]: for every tensor
//! of the new checkpoint, where its values come from. [`ConversionPlan::write`] is the only code that moves
//! weights.

mod as_llama;
mod cast;
mod expand;
mod extract;
mod gaussian;
mod pack;
mod plan;
mod ratios;

pub use as_llama::as_llama;
pub use cast::cast;
pub use expand::{expand, expanded_config, ExpandError, Init};
pub use extract::extract;
pub use gaussian::Gaussian;
pub(crate) use gaussian::GaussianRows;
pub use pack::{dropped_values, pack, unpack, DroppedValues};
pub use plan::{ConversionPlan, Fill, PlannedFile, PlannedTensor, Rectangle};
pub use ratios::Indivisible;
