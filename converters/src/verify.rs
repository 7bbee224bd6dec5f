//! Everything that is wrong with a checkpoint folder.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use thiserror::Error;

use crate::accompanying::accompanying_files;
use crate::error::CheckpointError;
use crate::folder_kind::check_folder;
use crate::json_file::JsonFileError;
use crate::layout::Layout;
use crate::names::Part;
use crate::problems::Problems;
use crate::read::Checkpoint;
use crate::shortened::shortened;
use crate::source::{understand, OF_COLM};
use crate::stream::Progress;
use crate::weight_file::is_readable;

/// After as many bytes the files' mapped pages are let go.
const PIECE: usize = 16 << 20;

/// Something wrong with a checkpoint folder.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    JsonFile(#[from] JsonFileError),
    #[error(
        "tensor `{}` in {file}: {nan} values are NaN and {infinite} infinite, the first at element {first}; \
         expected finite weights",
        shortened(.name)
    )]
    NotFinite { name: String, file: PathBuf, nan: usize, infinite: usize, first: usize },
}

impl Problem {
    /// How many problems it tells of: more than one only where they are not listed.
    pub fn count(&self) -> usize {
        match self {
            Self::Checkpoint(CheckpointError::MoreProblems { more, .. }) => *more,
            _ => 1,
        }
    }
}

/// Reads folder `dir` through, config, headers and weights, and gives every problem found; none in
/// a checkpoint that can be used. `progress` hears of the weights read.
///
/// Two things hide others: a config that is refused leaves nothing to compare the weights with, and
/// of problems with headers the first 1,000 are listed; if there are more, the weights are not looked at.
pub fn verify(dir: &Path, progress: impl FnMut(Progress)) -> Vec<Problem> {
    if let Err(error) = check_folder(dir) {
        return vec![error.into()];
    }
    let beside = accompanying_files(dir).into_iter().filter_map(|file| match file {
        Ok(file) => file.check().err().map(Problem::from),
        Err(error) => Some(error.into()),
    });
    let mut problems: Vec<Problem> = beside.collect();
    let (config, leniency) = match understand(dir) {
        Ok((config, llama)) => (config, llama.unwrap_or(OF_COLM)),
        Err(error) => {
            problems.push(error.into());
            return problems;
        }
    };
    let mut in_headers = Problems::all();
    let k = config.all_chains();
    let checkpoint = Checkpoint::survey(dir, &config, k, leniency, &mut in_headers);
    let too_many = in_headers.are_too_many();
    problems.extend(in_headers.into_list(dir).into_iter().map(Problem::from));
    match checkpoint {
        Ok(_) if too_many => {}
        Ok(checkpoint) => read_weights(&checkpoint, progress, &mut problems),
        Err(error) => problems.push(error.into()),
    }
    problems
}

fn read_weights(
    checkpoint: &Checkpoint,
    mut progress: impl FnMut(Progress),
    problems: &mut Vec<Problem>,
) {
    let names = || {
        let readable =
            |name: &&String| checkpoint.find(name).is_some_and(|(_, info)| is_readable(info.dtype));
        checkpoint.file_of.keys().filter(readable)
    };
    let mut state = Progress { done: 0, total: names().map(|name| length(checkpoint, name)).sum() };
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
        for found in checkpoint.nonzero_blocks() {
            problems.push(Problem::Checkpoint(match found {
                Ok((file, block)) => {
                    CheckpointError::NotZero { file: file.into(), block: Box::new(block) }
                }
                Err(error) => error,
            }));
        }
        if checkpoint.find(&Part::Head.dense_name()).is_some() {
            problems.extend(checkpoint.check_head_copy().err().map(Problem::from));
        }
    }
}

fn length(checkpoint: &Checkpoint, name: &str) -> u64 {
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
        let found = NotFinite::in_values(info.dtype, piece);
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

/// The values of a piece of weights that are not finite.
#[derive(Default)]
struct NotFinite {
    nan: usize,
    infinite: usize,
    first: Option<usize>,
}

impl NotFinite {
    /// Not finite is what has all bits of its exponent set, NaN what has any after those as well.
    fn in_values(dtype: Dtype, bytes: &[u8]) -> Self {
        match dtype {
            Dtype::F32 => {
                let (values, _) = bytes.as_chunks();
                Self::count(values, 0x7f80_0000, |value| u32::from_le_bytes(*value) & !(1 << 31))
            }
            Dtype::F16 => {
                let (values, _) = bytes.as_chunks();
                Self::count(values, 0x7c00, |value| u16::from_le_bytes(*value) & !(1 << 15))
            }
            _ => {
                let (values, _) = bytes.as_chunks();
                Self::count(values, 0x7f80, |value| u16::from_le_bytes(*value) & !(1 << 15))
            }
        }
    }

    fn count<V, B: Ord + Copy>(values: &[V], infinity: B, magnitude: impl Fn(&V) -> B) -> Self {
        // Nearly always none: a pass without branches first.
        if !values.iter().fold(false, |any, value| any | (magnitude(value) >= infinity)) {
            return Self::default();
        }
        let count = |is: fn(&B, &B) -> bool| {
            values.iter().filter(|value| is(&magnitude(value), &infinity)).count()
        };
        Self {
            nan: count(B::gt),
            infinite: count(B::eq),
            first: values.iter().position(|value| magnitude(value) >= infinity),
        }
    }
}
