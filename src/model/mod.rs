//! The model, readable top to bottom: [`rows`] says which rows each chain is active on, [`linear`],
//! [`layers`], [`attention`], [`block`] and [`head`] compute on them, [`colm`] is the whole. Nothing here
//! knows the host's engine; of its crates only `mistralrs-quant` is used, for loading weights and for
//! products with quantized ones.

pub mod attention;
pub mod block;
pub mod colm;
pub mod head;
pub mod layers;
pub mod linear;
pub mod representation;
pub mod rows;
pub mod source;
mod trial;

pub use colm::Colm;
pub use representation::Representation;
pub use rows::{ActiveRows, Sequence, Step};
