//! Checks a checkpoint folder and lists everything that is wrong with it.

mod finite;

use std::path::{Path, PathBuf};

use thiserror::Error;

use self::finite::NonFinite;
use crate::format::{is_supported, CheckpointError, Layout};
use crate::json::JsonFileError;
use crate::read::{
    check_folder, read_config, side_files, Checkpoint, ModelConfig, ProblemList, Progress,
};
use crate::text::abbreviate;

/// The bytes of weights after which mapped pages are released.
const PIECE: usize = 16 << 20;

/// A problem of a checkpoint folder.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The checkpoint breaks a rule of `docs/spec.md`.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file beside the weights cannot be read.
    #[error(transparent)]
    JsonFile(#[from] JsonFileError),
    /// A tensor has values that are not finite.
    #[error(
        "tensor `{}` in {file}: {nan} values are NaN and {infinite} infinite, the first at element {first}; \
         expected finite weights",
        abbreviate(.name)
    )]
    NotFinite {
        /// The name of the tensor.
        name: String,
        /// Its file.
        file: PathBuf,
        /// How many values are NaN.
        nan: usize,
        /// How many values are infinite.
        infinite: usize,
        /// The index of the first such value, row-major.
        first: usize,
    },
}

impl Problem {
    /// How many problems this stands for: more than one only if they are not listed.
    pub fn count(&self) -> usize {
        match self {
            Self::Checkpoint(CheckpointError::MoreProblems { more, .. }) => *more,
            _ => 1,
        }
    }
}

/// Reads folder `dir` completely (config, headers, weights, side files) and returns every problem
/// found. A checkpoint without problems can be used. With `chains` this holds for the first `chains` chains, and the
/// files of the others may be missing. `progress` is called as weights are read.
///
/// Two kinds of problems hide others. With an invalid config there is nothing to compare the weights with. Of problems
/// with headers at most 1,000 are listed; if there are more, the weights are not read.
pub fn verify(dir: &Path, chains: Option<usize>, progress: impl FnMut(Progress)) -> Vec<Problem> {
    if let Err(error) = check_folder(dir) {
        return vec![error.into()];
    }
    let in_side_files = side_files(dir).into_iter().filter_map(|file| match file {
        Ok(file) => file.check().err().map(Problem::from),
        Err(error) => Some(error.into()),
    });
    let mut problems: Vec<Problem> = in_side_files.collect();
    let ModelConfig { config, deviations, .. } = match read_config(dir) {
        Ok(model) => model,
        Err(error) => {
            problems.push(error.into());
            return problems;
        }
    };
    let mut in_headers = ProblemList::all();
    let k = match chains.map_or(Ok(config.all_chains()), |k| config.chain_count(k)) {
        Ok(k) => k,
        Err(error) => {
            problems.push(CheckpointError::from(error).into());
            return problems;
        }
    };
    let checkpoint = Checkpoint::open_damaged(dir, &config, k, deviations, &mut in_headers);
    let is_truncated = in_headers.is_truncated();
    problems.extend(in_headers.into_list(dir).into_iter().map(Problem::from));
    match checkpoint {
        Ok(_) if is_truncated => {}
        Ok(checkpoint) => check_weights(&checkpoint, progress, &mut problems),
        Err(error) => problems.push(error.into()),
    }
    problems
}

fn check_weights(
    checkpoint: &Checkpoint,
    mut progress: impl FnMut(Progress),
    problems: &mut Vec<Problem>,
) {
    let names = || {
        let supported = |name: &&String| {
            checkpoint.find(name).is_some_and(|(_, info)| is_supported(info.dtype))
        };
        checkpoint.names().filter(supported)
    };
    let total = names().map(|name| byte_len(checkpoint, name)).sum();
    let mut state = Progress { done: 0, total };
    for name in names() {
        let read = &mut |bytes: usize| {
            state.done += bytes as u64;
            progress(state);
        };
        if let Err(error) = check_finite(checkpoint, name, read, problems) {
            problems.push(error.into());
        }
    }
    if checkpoint.layout() == Layout::Dense {
        for found in checkpoint.nonzero_submatrices() {
            problems.push(Problem::Checkpoint(match found {
                Ok((file, submatrix)) => {
                    let (file, submatrix) = (file.into(), Box::new(submatrix));
                    CheckpointError::NotZero { file, submatrix }
                }
                Err(error) => error,
            }));
        }
    }
    problems.extend(checkpoint.check_tied_head().err().map(Problem::from));
}

fn byte_len(checkpoint: &Checkpoint, name: &str) -> u64 {
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    checkpoint
        .find(name)
        .map_or(0, |(_, info)| (elements(&info.shape) * info.dtype.bitsize() / 8) as u64)
}

fn check_finite(
    checkpoint: &Checkpoint,
    name: &str,
    read: &mut impl FnMut(usize),
    problems: &mut Vec<Problem>,
) -> Result<(), CheckpointError> {
    let Some((file, info)) = checkpoint.find(name) else {
        return Ok(());
    };
    let (mut nan, mut infinite, mut first, mut before) = (0, 0, None, 0);
    for piece in file.bytes(name).unwrap_or_default().chunks(PIECE) {
        let found = NonFinite::count_in(info.dtype, piece);
        nan += found.nan;
        infinite += found.infinite;
        first = first.or(found.first.map(|first| before + first));
        before += piece.len() / (info.dtype.bitsize() / 8);
        checkpoint.release_pages()?;
        read(piece.len());
    }
    if let Some(first) = first {
        let (name, file) = (name.to_owned(), file.path.clone());
        problems.push(Problem::NotFinite { name, file, nan, infinite, first });
    }
    Ok(())
}
