//! The checkpoint format (`docs/spec.md#tensors`): which tensors a model has, what they are called in
//! both layouts, which files hold them, and the headers and index of these files.

mod cost;
mod dense_kv;
mod deviations;
mod dtype;
mod error;
mod header;
mod index;
mod layout;
mod model_tensors;
mod parse_name;
mod quantized_type;
mod tensor_id;
mod zero_submatrices;

pub(crate) use cost::ChainSize;
pub use dense_kv::DenseKv;
pub(crate) use deviations::AllowedDeviations;
pub(crate) use dtype::{from_f32, is_supported, to_f32, torch_name};
pub use error::CheckpointError;
pub(crate) use header::Header;
pub use header::HeaderError;
pub(crate) use index::Index;
pub(crate) use layout::{
    chain_file, chain_in_name, is_chain_file, is_shard, is_state_dict, SINGLE_FILE,
    STATE_DICT_INDEX_FILE,
};
pub use layout::{Layout, INDEX_FILE};
pub use quantized_type::{quantized_bytes, quantized_type};
pub use tensor_id::{ChainTensor, Projection, TensorId};
pub(crate) use zero_submatrices::find_nonzero;
pub use zero_submatrices::NonzeroSubmatrix;
