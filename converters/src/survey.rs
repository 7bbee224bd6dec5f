//! What is wrong with a checkpoint, as far as headers and the index tell.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::chain_count::ChainCount;
use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::index::Index;
use crate::layout::{chain_file, chain_in_name, names_in, Layout, WeightFiles};
use crate::names::Part;
use crate::placed::{one_layout, place_tensors};
use crate::problems::Problems;
use crate::read::{Checkpoint, Leniency};
use crate::weight_file::{is_readable, is_state_dict, WeightFile};

impl Checkpoint {
    /// Opens the first `k` chains of folder `dir` as far as possible and adds to `problems` until they are full;
    /// a checkpoint with none is whole. An error is one that leaves nothing to look at.
    pub(crate) fn survey(
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        leniency: Leniency,
        problems: &mut Problems,
    ) -> Result<Self, CheckpointError> {
        let WeightFiles { paths, index } = WeightFiles::find(dir, config, k, leniency.state_dicts)?;
        let (mut files, mut unread) = (Vec::new(), Vec::new());
        for path in paths {
            match WeightFile::open(&path) {
                Ok(file) => files.push(file),
                Err(problem) => {
                    problems.push(problem);
                    unread.push(path);
                }
            }
        }
        let file_of = place_tensors(&files, problems);
        let layout = one_layout(&files, &file_of, index.as_ref(), &unread)?;
        let checkpoint = Self { config: config.clone(), k, layout, files, file_of, leniency };
        let (index, others) = (index.as_ref(), OnceCell::new());
        let survey = Survey { checkpoint: &checkpoint, dir, index, unread, others };
        survey.index_agrees(problems);
        survey.all_present(problems);
        survey.all_expected(problems);
        Ok(checkpoint)
    }
}

struct Survey<'a> {
    checkpoint: &'a Checkpoint,
    dir: &'a Path,
    index: Option<&'a Index>,
    /// Files that could not be opened: what they hold is not known.
    unread: Vec<PathBuf>,
    /// Files of the folder that nothing leads to; see [`Self::elsewhere`].
    others: OnceCell<Vec<WeightFile>>,
}

impl Survey<'_> {
    /// The host finds tensors by the index, so the index must agree with the files opened.
    fn index_agrees(&self, problems: &mut Problems) {
        let Some(index) = self.index else {
            return;
        };
        let Checkpoint { config, k, files, file_of, .. } = self.checkpoint;
        let count = config.chains.count();
        for (name, file) in &index.weight_map {
            if problems.is_full() {
                return;
            }
            let name = name.clone();
            if chain_in_name(&name).is_some_and(|chain| chain >= count) {
                let (file, why) = (index.path.clone(), self.why_unexpected(&name));
                problems.push(CheckpointError::UnexpectedTensor { name, file, why });
                continue;
            }
            let file = index.path.with_file_name(file);
            let opened = files.iter().find(|opened| opened.path == file);
            // A file that cannot be read is a problem already, and so is a tensor in two files.
            if opened.is_some_and(|opened| opened.info(&name).is_some())
                || self.unread.contains(&file)
            {
                continue;
            }
            let found = file_of.get(&name).map(|&found| files[found].path.as_path());
            let found = found.or_else(|| opened.and_then(|_| self.elsewhere(&name)));
            match found.map(Path::to_path_buf) {
                Some(found) => {
                    let index = index.path.clone();
                    problems.push(CheckpointError::WrongFile { name, index, file, found });
                }
                None if opened.is_some() => {
                    problems.push(CheckpointError::MissingTensor { name, file });
                }
                // Of chains that are not asked for the files are not opened.
                None if chain_in_name(&name).is_some_and(|chain| chain >= k.get()) => {}
                None => {
                    let (file, why) = (index.path.clone(), self.why_unexpected(&name));
                    problems.push(CheckpointError::UnexpectedTensor { name, file, why });
                }
            }
        }
    }

    /// A safetensors file that holds tensor `name` and that neither the index nor its own name led to.
    fn elsewhere(&self, name: &str) -> Option<&Path> {
        let others = self.others.get_or_init(|| {
            let known = |path: &PathBuf| {
                self.checkpoint.files.iter().any(|file| file.path == *path)
                    || self.unread.contains(path)
            };
            let names = names_in(self.dir).unwrap_or_default();
            let safetensors = names.iter().filter(|name| name.ends_with(".safetensors"));
            let paths = safetensors.map(|name| self.dir.join(name)).filter(|path| !known(path));
            paths.filter_map(|path| WeightFile::open(&path).ok()).collect()
        });
        let holds = |file: &&WeightFile| file.info(name).is_some();
        others.iter().find(holds).map(|file| file.path.as_path())
    }

    fn all_present(&self, problems: &mut Problems) {
        for (name, chain) in self.required() {
            if problems.is_full() {
                return;
            }
            // One that the index places in a file that does not hold it is a problem already.
            let placed = self.index.is_some_and(|index| index.weight_map.contains_key(&name));
            if placed || self.checkpoint.file_of.contains_key(&name) {
                continue;
            }
            problems.push(match self.index.zip(self.elsewhere(&name)) {
                Some((index, file)) => {
                    let (index, file) = (index.path.clone(), file.into());
                    CheckpointError::NotInIndex { name, index, file }
                }
                None => CheckpointError::MissingTensor { name, file: self.expected_file(chain) },
            });
        }
    }

    /// The name of every tensor that must be there, and a chain of it; not those that a file which
    /// could not be opened may hold.
    fn required(&self) -> Box<dyn Iterator<Item = (String, usize)> + '_> {
        let Checkpoint { config, layout, k, .. } = self.checkpoint;
        match layout {
            Layout::Chains => {
                let chains = (0..k.get()).filter(|&chain| {
                    self.index.is_some() || !self.unread.contains(&self.expected_file(chain))
                });
                let tensors = chains.flat_map(|chain| config.tensors_of(chain));
                Box::new(tensors.map(|tensor| (tensor.name(), tensor.chain)))
            }
            Layout::Dense if self.index.is_none() && !self.unread.is_empty() => {
                Box::new(std::iter::empty())
            }
            Layout::Dense => {
                Box::new(self.checkpoint.parts_held().map(|part| (part.dense_name(), 0)))
            }
        }
    }

    /// Where a missing tensor of `chain` should have stood.
    fn expected_file(&self, chain: usize) -> PathBuf {
        let Checkpoint { config, files, layout, .. } = self.checkpoint;
        match (files.as_slice(), layout) {
            ([only], _) if self.unread.is_empty() => only.path.clone(),
            (_, Layout::Chains) => self.dir.join(chain_file(chain, config.chains.count())),
            (_, Layout::Dense) => self.dir.join("model-*-of-*.safetensors"),
        }
    }

    /// A tensor that the model would not use is never silently dropped.
    fn all_expected(&self, problems: &mut Problems) {
        for (name, &file) in &self.checkpoint.file_of {
            if is_no_weight(name) || problems.is_full() {
                continue;
            }
            let file = &self.checkpoint.files[file];
            match self.expected_shapes(name) {
                Some(shapes) => {
                    problems.extend(self.not_in_index(file, name));
                    problems.extend(check_header(file, name, &shapes));
                }
                None => problems.push(CheckpointError::UnexpectedTensor {
                    name: name.clone(),
                    file: file.path.clone(),
                    why: self.why_unexpected(name),
                }),
            }
        }
    }

    /// transformers would begin such a tensor anew.
    fn not_in_index(&self, file: &WeightFile, name: &str) -> Option<CheckpointError> {
        let index = self.index.filter(|index| !index.weight_map.contains_key(name))?;
        let (name, index, file) = (name.to_owned(), index.path.clone(), file.path.clone());
        Some(CheckpointError::NotInIndex { name, index, file })
    }

    /// The shapes tensor `name` may have; None if the model has no such tensor.
    fn expected_shapes(&self, name: &str) -> Option<Vec<Vec<usize>>> {
        let Checkpoint { config, layout, .. } = self.checkpoint;
        match (layout, Part::of_name(name)?) {
            (Layout::Chains, (part, Some(chain))) => {
                let is_ours = config.has_part(part) && chain < config.chains.count();
                let tensor = is_ours.then(|| config.chain_tensor(part, chain))??;
                Some(vec![tensor.shape()])
            }
            (Layout::Dense, (part, None)) => {
                let is_held = config.has_part(part) && !self.checkpoint.makes_up(part);
                let is_copy = part == Part::Head && self.head_copy_allowed();
                (is_held || is_copy).then(|| config.dense_shapes(part))
            }
            _ => None,
        }
    }

    /// State dicts hold every name of a shared tensor; safetensors files only one.
    fn head_copy_allowed(&self) -> bool {
        let state_dict = self.checkpoint.files.iter().any(|file| is_state_dict(&file.path));
        self.checkpoint.config.file.tie_word_embeddings
            && (self.checkpoint.leniency.head_copy || state_dict)
    }

    fn why_unexpected(&self, name: &str) -> String {
        let config = &self.checkpoint.config;
        let count = config.chains.count();
        match chain_in_name(name) {
            Some(chain) if chain >= count => {
                format!(
                    "`chains` has {count} entries, so chains in names go from 0 to {}",
                    count - 1
                )
            }
            _ if name.starts_with("lm_head.") && config.file.tie_word_embeddings => {
                "`tie_word_embeddings` is true".into()
            }
            _ if name.ends_with(".bias") => {
                "expected biases of projections only, and those with `attention_bias` or `mlp_bias`"
                    .into()
            }
            _ => "expected only the tensors of its layers and chains".into(),
        }
    }
}

/// Old Llama code saved RoPE's frequencies, which follow from the config.
fn is_no_weight(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

fn check_header(
    file: &WeightFile,
    name: &str,
    shapes: &[Vec<usize>],
) -> impl Iterator<Item = CheckpointError> {
    let info = file.info(name);
    let (name, file) = (name.to_owned(), file.path.clone());
    let shape = info.filter(|info| !shapes.contains(&info.shape)).map(|info| {
        let expected: Vec<_> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
        let (found, expected) = (info.shape.clone(), expected.join(" or "));
        CheckpointError::Shape { name: name.clone(), file: file.clone(), found, expected }
    });
    let dtype = info.filter(|info| !is_readable(info.dtype)).map(|info| CheckpointError::Dtype {
        name,
        file,
        found: info.dtype,
    });
    shape.into_iter().chain(dtype)
}
