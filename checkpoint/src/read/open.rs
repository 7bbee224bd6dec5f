//! Opening a checkpoint.

use std::path::Path;

use super::checkpoint::Checkpoint;
use super::header_check::HeaderCheck;
use super::locate::{detect_layout, locate_tensors};
use super::naming::Naming;
use super::problem_list::ProblemList;
use super::weight_file::WeightFile;
use super::weight_files::WeightFiles;
use crate::config::{ChainCount, ColmConfig};
use crate::format::{AllowedDeviations, CheckpointError};

impl Checkpoint {
    /// Opens the first `k` chains of folder `dir`: in the chain layout the files of these chains, in
    /// the dense layout all files. Headers are read, weights are not.
    ///
    /// # Errors
    /// If the files do not fit `config`: a tensor is missing, unknown, present twice, has another
    /// shape, or has a dtype other than F32, F16 and BF16; see `docs/spec.md#files`.
    pub fn open(dir: &Path, config: &ColmConfig, k: ChainCount) -> Result<Self, CheckpointError> {
        Self::open_with(dir, config, k, AllowedDeviations::default())
    }

    /// As [`Self::open`], with `deviations` from the format allowed.
    pub(crate) fn open_with(
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        deviations: AllowedDeviations,
    ) -> Result<Self, CheckpointError> {
        let mut problems = ProblemList::first();
        let checkpoint = Self::open_damaged(dir, config, k, deviations, &mut problems);
        problems.into_first().map_or(checkpoint, Err)
    }

    /// Opens the first `k` chains of folder `dir` as far as possible, and adds problems to `problems` until it is full.
    /// A checkpoint without problems is complete. An error means that nothing could be opened.
    pub(crate) fn open_damaged(
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        deviations: AllowedDeviations,
        problems: &mut ProblemList,
    ) -> Result<Self, CheckpointError> {
        let WeightFiles { paths, index } = WeightFiles::find(dir, config, k, deviations)?;
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        for path in paths {
            match WeightFile::open(&path, deviations) {
                Ok(file) => files.push(file),
                Err(problem) => {
                    problems.push(problem);
                    unreadable.push(path);
                }
            }
        }
        let file_of = locate_tensors(&files, problems);
        let naming = if deviations.paper_conventions {
            Naming::Paper
        } else {
            detect_layout(&files, &file_of, index.as_ref(), &unreadable)?.into()
        };
        let checkpoint = Self { config: config.clone(), k, naming, files, file_of, deviations };
        HeaderCheck::new(&checkpoint, dir, index.as_ref(), unreadable).run(problems);
        Ok(checkpoint)
    }
}
