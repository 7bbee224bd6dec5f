//! Reading a checkpoint folder.
//!
//! [`Checkpoint`] is the strict reader that the engine uses. [`Source`] also reads the Llama family, the paper's own
//! conventions and PyTorch files, for the conversions of [`crate::convert`]. Both work in the same way:
//! [`weight_files`] names the files, [`weight_file`] maps each of them, [`locate`] finds the tensors in them, [`naming`]
//! says how they are called, and [`header_check`] compares what was found with the config.

mod checkpoint;
mod folder;
mod header_check;
mod kv_digest;
mod locate;
mod model_config;
mod naming;
mod open;
mod paper_files;
mod problem_list;
mod progress;
mod side_files;
mod source;
mod tensor_slice;
mod weight_file;
mod weight_files;

pub use checkpoint::Checkpoint;
pub(crate) use folder::check_folder;
pub use folder::check_model_folder;
pub use model_config::ModelConfig;
pub(crate) use problem_list::ProblemList;
pub use progress::Progress;
pub(crate) use side_files::side_files;
pub(crate) use source::read_config;
pub use source::Source;
pub use tensor_slice::TensorSlice;
pub use weight_files::files_for;
pub(crate) use weight_files::WeightFiles;
