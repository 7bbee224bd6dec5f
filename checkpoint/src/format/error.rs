//! The error of reading and writing checkpoints.

use std::path::PathBuf;

use safetensors::Dtype;
use thiserror::Error;

use super::header::HeaderError;
use super::layout::INDEX_FILE;
use super::zero_submatrices::NonzeroSubmatrix;
use crate::config::{ChainCountError, ConfigError};
use crate::json::JsonFileError;
use crate::pickle::PickleError;
use crate::regular_file::FileError;
use crate::text::{abbreviate, abbreviate_list};

/// Why a checkpoint cannot be read or written.
///
/// Each message names the file or the tensor and what is expected. Chains count from 1 in messages
/// and from 0 in tensor names. The fields of the variants are what the messages quote.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The fields are quoted in the message above each variant.
#[non_exhaustive]
pub enum CheckpointError {
    /// config.json breaks a rule of `docs/spec.md#config`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A JSON file cannot be read.
    #[error(transparent)]
    JsonFile(#[from] JsonFileError),
    /// The model does not have that many chains.
    #[error(transparent)]
    ChainCount(#[from] ChainCountError),
    /// The path of a model does not lead to a folder.
    #[error(
        "{path} {what}; expected a folder with config.json and weights in safetensors files, as \
         Hugging Face models have"
    )]
    NotAFolder { path: PathBuf, what: String },
    /// The folder of a model has no config.json.
    #[error(
        "{dir} has no config.json: it {holds}; expected a folder with config.json and weights in \
         safetensors files, as Hugging Face models have"
    )]
    NoConfig { dir: PathBuf, holds: String },
    /// The operating system cannot read a file or folder.
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// A path does not lead to a regular file.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: FileError },
    /// The operating system cannot write a file or folder.
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    /// The folder to write exists.
    #[error("{path} exists already; expected the name of a new folder")]
    AlreadyExists { path: PathBuf },
    /// Writing would change the source.
    #[error(
        "{dir} and the source {source_dir} are the same folder, or one is inside the other; \
         expected a folder outside the source, so that the source does not change"
    )]
    Overlap { source_dir: PathBuf, dir: PathBuf },
    /// Writing would replace a link that leads to the source, or what a link in the source leads to.
    #[error(
        "{entry}, through which the source is read, leads into {dir}, which would be replaced; expected a folder to which \
         the source has no links, so that the source does not change"
    )]
    LinkedOverlap { entry: PathBuf, dir: PathBuf },
    /// The path of the folder to write leads to the parent of a folder that does not exist.
    #[error("{path}: {missing} does not exist; expected a path without `..` after it")]
    ParentOfMissing { path: PathBuf, missing: PathBuf },
    /// A symbolic link without a target is on the path of the folder to write.
    #[error("{path} is a dangling symbolic link; expected the name of a new folder")]
    DanglingLink { path: PathBuf },
    /// The file system does not have enough space. Sizes are in bytes.
    #[error(
        "{dir}: the model of {parameters} parameters takes {needed} bytes, but the file system has \
         only {free} bytes free"
    )]
    DiskSpace { dir: PathBuf, parameters: u128, needed: u128, free: u128 },
    /// The checkpoint is complete, and the folder that it replaced could not be deleted.
    #[error(
        "{dir} is written, but the folder that it replaces cannot be removed: {old}: {source}"
    )]
    OldFolder { dir: PathBuf, old: PathBuf, source: std::io::Error },
    /// The config cannot be written as JSON.
    #[error("cannot write the config: {0}")]
    Json(serde_json::Error),
    /// The folder has no weights.
    #[error(
        "no weights in {dir}: expected {INDEX_FILE}, model.safetensors, \
         model-chain-*-of-*.safetensors, model-*-of-*.safetensors or other safetensors files{found}"
    )]
    NoWeights { dir: PathBuf, found: String },
    /// The weights are in a PyTorch state dict, where only safetensors files are loaded.
    #[error(
        "{path} is a PyTorch state dict, but weights are loaded from safetensors files only; \
         `colm-convert pack {dir} NEW_FOLDER` converts it"
    )]
    StateDict { dir: PathBuf, path: PathBuf },
    /// The weights are in the format of Meta's own Llama releases.
    #[error(
        "{path} is in Meta's own format, which has other tensor names and another order of rows; \
         expected the model in the Hugging Face format, as model.safetensors or pytorch_model.bin"
    )]
    MetaFormat { path: PathBuf },
    /// The folder is in the paper's own conventions, where only the two layouts are loaded.
    #[error(
        "{dir} has params.json and no config.json, as models in the paper's own conventions have; \
         `colm-convert pack {dir} NEW_FOLDER` converts a CoLM"
    )]
    PaperConventions { dir: PathBuf },
    /// A file has a part of each matrix.
    #[error(
        "{path} is one of several files of a model-parallel checkpoint, which have a part of each matrix; \
         expected whole matrices: save the model without model parallelism, as one consolidated.00.pth or in \
         safetensors files"
    )]
    ModelParallel { path: PathBuf },
    /// The weights are in a distributed checkpoint of PyTorch.
    #[error(
        "{path} is part of a distributed checkpoint of PyTorch; expected safetensors or PyTorch files, such as \
         `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {dir} {dir}/consolidated.00.pth` writes"
    )]
    Distributed { dir: PathBuf, path: PathBuf },
    /// The folder has two sets of weights and no index.
    #[error(
        "{dir} holds both {} and {} and no {INDEX_FILE} to choose between them; expected one \
         checkpoint per folder",
        abbreviate(.first), abbreviate(.second)
    )]
    AmbiguousWeights { dir: PathBuf, first: String, second: String },
    /// The index names no tensors.
    #[error("{path}: `weight_map` names no tensors; expected the name of a file for every tensor")]
    EmptyIndex { path: PathBuf },
    /// A file of weights is missing.
    #[error("{path} is missing{}", after_colon(.why))]
    MissingFile { path: PathBuf, why: String },
    /// The index places a tensor outside its folder.
    #[error(
        "{index} places tensor `{}` in \"{}\"; expected the plain name of a file in the folder of the index",
        abbreviate(.tensor), abbreviate(.file)
    )]
    IndexPath { index: PathBuf, tensor: String, file: String },
    /// The file of a chain in a model of another number of chains.
    #[error(
        "{path} does not belong to this model: `chains` has {chains} entries; expected {expected}"
    )]
    WrongChainFile { path: PathBuf, chains: usize, expected: String },
    /// A safetensors file is damaged.
    #[error("{path} is truncated or not a safetensors file: {source}")]
    Corrupt { path: PathBuf, source: HeaderError },
    /// A PyTorch file is damaged or of an unsupported form.
    #[error("{path} is not a PyTorch state dict that can be read: {source}")]
    Pickle { path: PathBuf, source: Box<PickleError> },
    /// The tensors are named in both layouts.
    #[error(
        "`{}` in {chain_file} has a name of the chain layout, and `{}` in {dense_file} one \
         of the dense layout; expected one layout in all files",
        abbreviate(.chain), abbreviate(.dense)
    )]
    MixedLayouts { chain: String, chain_file: PathBuf, dense: String, dense_file: PathBuf },
    /// A tensor of the model is missing.
    #[error("tensor `{}` is missing: expected in {file}", abbreviate(.name))]
    MissingTensor { name: String, file: PathBuf },
    /// A tensor is missing although params.json asks for it.
    #[error("tensor `{}` is missing: expected in {file}, because in params.json {why}", abbreviate(.name))]
    NotAsInParams { name: String, file: PathBuf, why: &'static str },
    /// A tensor does not belong to the model.
    #[error(
        "tensor `{}` in {file} is not part of the model that {config} describes: {why}{}",
        abbreviate(.name), and_others(.others)
    )]
    UnexpectedTensor {
        name: String,
        file: PathBuf,
        config: &'static str,
        why: String,
        /// Further ones, where this is the only error.
        others: Vec<String>,
    },
    /// A tensor is in two files.
    #[error("tensor `{}` is in both {first} and {second}; expected it once", abbreviate(.name))]
    DuplicateTensor { name: String, first: PathBuf, second: PathBuf },
    /// A tensor is missing from the index.
    #[error(
        "tensor `{}` is in {file}, but {index} does not name it; expected the index to name every tensor",
        abbreviate(.name)
    )]
    NotInIndex { name: String, index: PathBuf, file: PathBuf },
    /// The index names another file than the one that holds the tensor.
    #[error(
        "{index} places tensor `{}` in {file}, but it is in {found}; expected the index to name the \
         file that holds it",
        abbreviate(.name)
    )]
    WrongFile { name: String, index: PathBuf, file: PathBuf, found: PathBuf },
    /// There are more problems than are listed.
    #[error("{dir}: at least {more} more problems are not listed")]
    MoreProblems { dir: PathBuf, more: usize },
    /// A tensor has another shape than the config gives it.
    #[error(
        "tensor `{}` in {file} has shape {}; expected {expected}",
        abbreviate(.name), abbreviate_list(.found)
    )]
    Shape { name: String, file: PathBuf, found: Vec<usize>, expected: String },
    /// A tensor has an unsupported dtype.
    #[error(
        "tensor `{}` in {file} has dtype {found}; expected F32, F16 or BF16", abbreviate(.name)
    )]
    Dtype { name: String, file: PathBuf, found: Dtype },
    /// The head of a model with tied embeddings differs from the embedding.
    #[error(
        "`{head}` in {file} differs from `{embedding}`, though \
         `tie_word_embeddings` is true; expected no head, or the same, or `tie_word_embeddings` false"
    )]
    UntiedHead { file: PathBuf, head: String, embedding: String },
    /// A dense matrix lets a chain read a later one.
    #[error("{file}: {submatrix}")]
    NotZero { file: PathBuf, submatrix: Box<NonzeroSubmatrix> },
    /// The chains of a tensor have different dtypes, and a dense tensor can only have one.
    #[error(
        "the chains of tensor `{name}` have dtypes {first} and {second}, but a dense tensor has only \
         one; cast the checkpoint to one dtype first"
    )]
    MixedDtypes { name: String, first: Dtype, second: Dtype },
    /// The model's Python code beside a dense checkpoint, which it does not read.
    #[error(
        "the model's code for transformers reads the chain layout, and this checkpoint would be in the dense layout; \
         expected the chain layout, to which `colm-convert pack` converts"
    )]
    PythonNeedsChainLayout,
    /// Values do not fit the dtype they are cast to.
    #[error("tensor `{name}`: {count} finite values are too large for {dtype}")]
    Overflow { name: String, dtype: Dtype, count: usize },
}

/// The end of a message that has a reason, if there is one.
fn after_colon(why: &str) -> String {
    if why.is_empty() {
        return String::new();
    }
    format!(": {why}")
}

/// A further clause of the message, if there are others.
fn and_others(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; the same holds for {}", abbreviate_list(names))
}
