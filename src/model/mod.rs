//! The model, readable top to bottom: [`rows`] says which rows each chain is active on, [`layers`],
//! [`attention`] and [`block`] compute on them, [`colm`] is the whole. Nothing here knows the host's
//! engine; of its crates only `mistralrs-quant` is used, for the matrix products of a chain block.

pub mod attention;
pub mod block;
pub mod colm;
pub mod layers;
pub mod representation;
pub mod rows;

pub use colm::Colm;
pub use representation::Representation;
pub use rows::{ActiveRows, Sequence, Step};
