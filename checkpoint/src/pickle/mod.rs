//! PyTorch state dicts (`.bin`, `.pt`, `.pth`): a zip archive of a pickle, which describes the tensors,
//! and of storages, which hold their values.
//!
//! candle's reader runs the pickle. It calls no functions and executes nothing. Before that, [`bounds`]
//! checks that the pickle stays within limits of memory and nesting.

mod archive;
mod bounds;
mod error;
mod read;
mod state_dict;
mod strided;

pub use bounds::BoundsError;
pub use error::PickleError;
pub(crate) use read::read;
pub(crate) use state_dict::Entries;
pub(crate) use strided::Strided;
