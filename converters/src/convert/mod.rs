//! The conversions. Each only says what the new checkpoint consists of, as a [`Plan`](crate::Plan).

mod as_llama;
mod cast;
mod expand;
mod extract;
mod layout;

pub use as_llama::as_llama;
pub use cast::cast;
pub use expand::{expand, expanded_config, ExpandError, Init};
pub use extract::extract;
pub use layout::{dropped, pack, unpack, Dropped};

use crate::error::CheckpointError;
use crate::names::ChainTensor;
use crate::plan::Content;
use crate::source::Source;
use crate::Dtype;

/// A tensor as it is in `source`.
fn unchanged(
    source: &Source,
) -> impl Fn(&ChainTensor) -> Result<(Dtype, Content), CheckpointError> + '_ {
    |tensor| Ok((source.dtype(tensor), Content::Source(tensor.clone())))
}
