//! Why a checkpoint is refused.

use std::path::PathBuf;

use safetensors::Dtype;
use thiserror::Error;

use crate::chain_count::ChainCountError;
use crate::config::ConfigError;
use crate::convert::ExpandError;
use crate::header::HeaderError;
use crate::json_file::JsonFileError;
use crate::layout::INDEX_FILE;
use crate::pickle::PickleError;
use crate::regular_file::NoFile;
use crate::shortened::{list, shortened};
use crate::zero_blocks::NonzeroBlock;

/// Why a checkpoint cannot be read or written. Each message names the file or tensor and what
/// would be right. Chains count from 1 in messages, as in SPEC; from 0 in tensor names.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum CheckpointError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    JsonFile(#[from] JsonFileError),
    #[error(
        "{path} {what}; expected a folder with config.json and weights in safetensors files, as \
         Hugging Face models have"
    )]
    NoFolder { path: PathBuf, what: String },
    #[error(
        "{dir} has no config.json: it {holds}; expected a folder with config.json and weights in \
         safetensors files, as Hugging Face models have"
    )]
    NoConfig { dir: PathBuf, holds: String },
    #[error(transparent)]
    ChainCount(#[from] ChainCountError),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    NoFile { path: PathBuf, source: NoFile },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} exists already; expected the name of a new folder")]
    Exists { path: PathBuf },
    #[error(
        "{dir} and the source {source_dir} are the same folder, or one is inside the other; \
         expected a folder outside the source, so that the source does not change"
    )]
    Overlap { source_dir: PathBuf, dir: PathBuf },
    #[error("{path} is a symbolic link that leads nowhere; expected the name of a new folder")]
    LinkToNothing { path: PathBuf },
    #[error(
        "{dir}: the model of {parameters} parameters takes {needed} bytes, but the file system has \
         only {free} bytes free"
    )]
    NoRoom { dir: PathBuf, parameters: u128, needed: u128, free: u128 },
    #[error(
        "{dir} is written, but the folder that it replaces cannot be removed: {old}: {source}"
    )]
    OldFolder { dir: PathBuf, old: PathBuf, source: std::io::Error },
    #[error("cannot write the config: {0}")]
    Json(serde_json::Error),
    #[error(
        "no weights in {dir}: expected {INDEX_FILE}, model.safetensors, \
         model-chain-*-of-*.safetensors or model-*-of-*.safetensors{found}"
    )]
    NoWeights { dir: PathBuf, found: String },
    #[error(
        "{path} is a PyTorch state dict, but weights are loaded from safetensors files only; \
         `colm-convert pack {dir} NEW_FOLDER` converts it"
    )]
    StateDict { dir: PathBuf, path: PathBuf },
    #[error(
        "{path} is in Meta's own format, which has other tensor names and another order of rows; \
         expected the model in the Hugging Face format, as model.safetensors or pytorch_model.bin"
    )]
    MetaFormat { path: PathBuf },
    #[error(
        "{dir} holds both {} and {} and no {INDEX_FILE} to choose between them; expected one \
         checkpoint per folder",
        shortened(.first), shortened(.second)
    )]
    AmbiguousWeights { dir: PathBuf, first: String, second: String },
    #[error("{path}: `weight_map` names no tensors; expected the name of a file for every tensor")]
    EmptyIndex { path: PathBuf },
    #[error("{path} is missing: {needed_for}")]
    MissingFile { path: PathBuf, needed_for: String },
    #[error(
        "{index} places tensor `{}` in \"{}\"; expected the plain name of a file in the folder of the index",
        shortened(.tensor), shortened(.file)
    )]
    IndexPath { index: PathBuf, tensor: String, file: String },
    #[error(
        "{path} does not belong to this model: `chains` has {chains} entries; expected {expected}"
    )]
    ChainFile { path: PathBuf, chains: usize, expected: String },
    #[error("{path} is truncated or not a safetensors file: {source}")]
    Corrupt { path: PathBuf, source: HeaderError },
    #[error("{path} is not a PyTorch state dict that can be read: {source}")]
    Pickle { path: PathBuf, source: Box<PickleError> },
    #[error(
        "`{}` in {chain_file} has a name of the chain layout, and `{}` in {dense_file} one \
         of the dense layout; expected one layout in all files",
        shortened(.chain), shortened(.dense)
    )]
    MixedLayouts { chain: String, chain_file: PathBuf, dense: String, dense_file: PathBuf },
    #[error("tensor `{}` is missing: expected in {file}", shortened(.name))]
    MissingTensor { name: String, file: PathBuf },
    #[error(
        "tensor `{}` in {file} is not part of the model that config.json describes: {why}",
        shortened(.name)
    )]
    UnexpectedTensor { name: String, file: PathBuf, why: String },
    #[error("tensor `{}` is in both {first} and {second}; expected it once", shortened(.name))]
    DuplicateTensor { name: String, first: PathBuf, second: PathBuf },
    #[error(
        "tensor `{}` is in {file}, but {index} does not name it; expected the index to name every tensor",
        shortened(.name)
    )]
    NotInIndex { name: String, index: PathBuf, file: PathBuf },
    #[error(
        "{index} places tensor `{}` in {file}, but it is in {found}; expected the index to name the \
         file that holds it",
        shortened(.name)
    )]
    WrongFile { name: String, index: PathBuf, file: PathBuf, found: PathBuf },
    #[error("{dir}: at least {more} more problems are not listed")]
    MoreProblems { dir: PathBuf, more: usize },
    #[error(
        "tensor `{}` in {file} has shape {}; expected {expected}", shortened(.name), list(.found)
    )]
    Shape { name: String, file: PathBuf, found: Vec<usize>, expected: String },
    #[error(
        "tensor `{}` in {file} has dtype {found}; expected F32, F16 or BF16", shortened(.name)
    )]
    Dtype { name: String, file: PathBuf, found: Dtype },
    #[error(
        "`lm_head.weight` in {file} differs from `model.embed_tokens.weight`, though \
         `tie_word_embeddings` is true; expected no head, or the same, or `tie_word_embeddings` false"
    )]
    HeadCopy { file: PathBuf },
    #[error("{file}: {block}")]
    NotZero { file: PathBuf, block: Box<NonzeroBlock> },
    #[error(
        "the chains of tensor `{name}` have dtypes {first} and {second}, but a dense tensor has only \
         one; cast the checkpoint to one dtype first"
    )]
    MixedDtypes { name: String, first: Dtype, second: Dtype },
    #[error("tensor `{name}`: {count} finite values are too large for {dtype}")]
    Overflow { name: String, dtype: Dtype, count: usize },
    #[error(transparent)]
    Expand(Box<ExpandError>),
}

impl From<ExpandError> for CheckpointError {
    fn from(error: ExpandError) -> Self {
        Self::Expand(Box::new(error))
    }
}

impl From<Box<ExpandError>> for CheckpointError {
    fn from(error: Box<ExpandError>) -> Self {
        Self::Expand(error)
    }
}
