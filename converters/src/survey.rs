//! What is wrong with a checkpoint, as far as headers and the index tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::layout::{chain_file, chain_in_name, Index, Layout, WeightFiles};
use crate::names::Part;
use crate::read::{Checkpoint, Leniency};
use crate::weight_file::{is_readable, is_state_dict, WeightFile};

/// More problems than anyone reads; a config of a thousand million layers could give any number.
const MAX_PROBLEMS: usize = 1000;

impl Checkpoint {
    /// Opens the first `k` chains of folder `dir` as far as possible. All `problems` are told of,
    /// but for those after the first 1,000; a checkpoint with none is whole. An error
    /// is one that leaves nothing to look at.
    pub(crate) fn survey(
        dir: &Path,
        config: &ColmConfig,
        k: usize,
        leniency: Leniency,
        problems: &mut Vec<CheckpointError>,
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
        let layout = one_layout(&file_of)?;
        let checkpoint = Self { config: config.clone(), k, layout, files, file_of, leniency };
        let survey = Survey { checkpoint: &checkpoint, dir, index: index.as_ref(), unread };
        survey.index_agrees(problems);
        survey.all_present(problems);
        // Beyond that the expected tensors may be too many to name.
        if problems.len() <= MAX_PROBLEMS {
            survey.all_expected(problems);
        }
        if problems.len() > MAX_PROBLEMS {
            problems.truncate(MAX_PROBLEMS);
            problems.push(CheckpointError::MoreProblems { listed: MAX_PROBLEMS });
        }
        Ok(checkpoint)
    }
}

struct Survey<'a> {
    checkpoint: &'a Checkpoint,
    dir: &'a Path,
    index: Option<&'a Index>,
    /// Files that could not be opened: what they hold is not known.
    unread: Vec<PathBuf>,
}

impl Survey<'_> {
    /// The host finds tensors by the index, so the index must agree with the files opened.
    fn index_agrees(&self, problems: &mut Vec<CheckpointError>) {
        let Some(index) = self.index else {
            return;
        };
        let Checkpoint { config, files, file_of, .. } = self.checkpoint;
        let count = config.chains.count();
        for (name, file) in &index.weight_map {
            let name = name.clone();
            if chain_in_name(&name).is_some_and(|chain| chain >= count) {
                let (file, why) = (index.path.clone(), self.why_unexpected(&name));
                problems.push(CheckpointError::UnexpectedTensor { name, file, why });
                continue;
            }
            let file = index.path.with_file_name(file);
            match file_of.get(&name).map(|&found| &files[found].path) {
                None if files.iter().any(|opened| opened.path == file) => {
                    problems.push(CheckpointError::MissingTensor { name, file });
                }
                Some(found) if *found != file => {
                    let second = found.clone();
                    problems.push(CheckpointError::DuplicateTensor { name, first: file, second });
                }
                _ => {}
            }
        }
    }

    fn all_present(&self, problems: &mut Vec<CheckpointError>) {
        for (name, chain) in self.required() {
            if problems.len() > MAX_PROBLEMS {
                return;
            }
            if self.checkpoint.file_of.contains_key(&name) {
                continue;
            }
            let file = self.expected_file(chain);
            let maybe_unread = match self.index {
                // Placed in a file opened, where its absence has been told of, or in one unread.
                Some(index) => index.weight_map.contains_key(&name),
                None if self.checkpoint.layout == Layout::Dense => !self.unread.is_empty(),
                None => self.unread.contains(&file),
            };
            if !maybe_unread {
                problems.push(CheckpointError::MissingTensor { name, file });
            }
        }
    }

    /// The name of every tensor that must be there, and a chain of it.
    fn required(&self) -> Box<dyn Iterator<Item = (String, usize)> + '_> {
        match self.checkpoint.layout {
            Layout::Chains => {
                let tensors = self.checkpoint.config.tensors(self.checkpoint.k);
                Box::new(tensors.map(|tensor| (tensor.name(), tensor.chain)))
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
    fn all_expected(&self, problems: &mut Vec<CheckpointError>) {
        let expected = self.expected_shapes();
        for (name, &file) in &self.checkpoint.file_of {
            if is_no_weight(name) {
                continue;
            }
            let file = &self.checkpoint.files[file];
            match expected.get(name) {
                Some(shapes) => {
                    problems.extend(self.not_in_index(file, name));
                    problems.extend(check_header(file, name, shapes));
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

    /// Every name of the layout, with the shapes it may have.
    fn expected_shapes(&self) -> BTreeMap<String, Vec<Vec<usize>>> {
        let config = &self.checkpoint.config;
        match self.checkpoint.layout {
            Layout::Chains => {
                let all = config.tensors(config.chains.count());
                all.map(|tensor| (tensor.name(), vec![tensor.shape()])).collect()
            }
            Layout::Dense => {
                let head_copy = self.head_copy_allowed().then_some(Part::Head);
                let all = self.checkpoint.parts_held().chain(head_copy);
                all.map(|part| (part.dense_name(), config.dense_shapes(part))).collect()
            }
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
                "expected biases only of projections, with `attention_bias` or `mlp_bias`".into()
            }
            _ => "expected only the tensors of its layers and chains".into(),
        }
    }
}

/// Old Llama code saved RoPE's frequencies, which follow from the config.
fn is_no_weight(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

fn place_tensors(
    files: &[WeightFile],
    problems: &mut Vec<CheckpointError>,
) -> BTreeMap<String, usize> {
    let mut file_of = BTreeMap::new();
    for (position, file) in files.iter().enumerate() {
        for name in file.names() {
            if let Some(first) = file_of.insert(name.clone(), position) {
                let (first, second) = (files[first].path.clone(), file.path.clone());
                let name = name.clone();
                problems.push(CheckpointError::DuplicateTensor { name, first, second });
            }
        }
    }
    file_of
}

fn one_layout(file_of: &BTreeMap<String, usize>) -> Result<Layout, CheckpointError> {
    let first = |layout| file_of.keys().find(|name| Layout::of_name(name) == layout).cloned();
    match (first(Layout::Chains), first(Layout::Dense)) {
        (Some(chain), Some(dense)) => Err(CheckpointError::MixedLayouts { chain, dense }),
        (Some(_), None) => Ok(Layout::Chains),
        (None, _) => Ok(Layout::Dense),
    }
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
