//! The paper's own conventions (`docs/spec.md#the-papers-own-conventions`): params.json, the names of its tensors, and
//! the order of their rows and columns.
//!
//! A folder in these conventions holds the same model as one in the chain layout. [`parse_params`] gives its config,
//! [`PaperTensor`] is
//! the tensor that holds a chain's share, and [`Order`] says where in that tensor each row and column is.

mod fields;
mod names;
mod numbers;
mod order;
mod params;
mod reasons;
mod rope;
mod widths;

pub(crate) use names::{holds_no_weights, is_rope_table, PaperTensor};
pub(crate) use order::Order;
pub(crate) use params::{parse_params, PARAMS_FILE};
pub(crate) use reasons::{why_missing_in_paper, why_not_of_paper};
