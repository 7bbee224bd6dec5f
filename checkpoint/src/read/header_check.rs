//! Checks that the headers of all files, the index and the config agree (`docs/spec.md#files`).

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::folder::names_in;
use super::naming::Naming;
use super::problem_list::ProblemList;
use super::weight_file::WeightFile;
use crate::format::{
    chain_file, chain_in_name, is_state_dict, is_supported, CheckpointError, Index, Layout,
    TensorId,
};
use crate::paper::{
    is_rope_table, why_missing_in_paper, why_not_of_paper, PaperTensor, PARAMS_FILE,
};

/// How many unknown tensors are named besides the first.
const MAX_OTHERS: usize = 20;

pub(super) struct HeaderCheck<'a> {
    checkpoint: &'a Checkpoint,
    dir: &'a Path,
    index: Option<&'a Index>,
    /// Files that could not be opened. Their tensors are unknown.
    unreadable: Vec<PathBuf>,
    /// Files of the folder that belong to no file set; see [`Self::elsewhere`].
    other_files: OnceCell<Vec<WeightFile>>,
}

impl<'a> HeaderCheck<'a> {
    pub fn new(
        checkpoint: &'a Checkpoint,
        dir: &'a Path,
        index: Option<&'a Index>,
        unreadable: Vec<PathBuf>,
    ) -> Self {
        Self { checkpoint, dir, index, unreadable, other_files: OnceCell::new() }
    }

    /// Adds problems to `problems` until it is full.
    pub fn run(&self, problems: &mut ProblemList) {
        self.check_index(problems);
        self.check_all_present(problems);
        self.check_all_expected(problems);
    }

    /// The index must agree with the files, because the host finds tensors by the index.
    fn check_index(&self, problems: &mut ProblemList) {
        let Some(index) = self.index else {
            return;
        };
        for (name, file) in &index.weight_map {
            if problems.is_full() {
                return;
            }
            problems.extend(self.check_index_entry(index, name.clone(), file));
        }
    }

    fn check_index_entry(
        &self,
        index: &Index,
        name: String,
        file: &str,
    ) -> Option<CheckpointError> {
        let Checkpoint { config, k, files, file_of, .. } = self.checkpoint;
        let unexpected = |name: String| self.unexpected(name, index.path.clone(), Vec::new());
        let chain = chain_in_name(&name);
        if chain.is_some_and(|chain| chain >= config.chains.count()) {
            return Some(unexpected(name));
        }
        let file = index.path.with_file_name(file);
        let opened = files.iter().find(|opened| opened.path == file);
        // An unreadable file is a problem already, and so is a tensor in two files.
        if opened.is_some_and(|opened| opened.info(&name).is_some())
            || self.unreadable.contains(&file)
        {
            return None;
        }
        let found = file_of.get(&name).map(|&found| files[found].path.as_path());
        let found = found.or_else(|| opened.and_then(|_| self.elsewhere(&name)));
        match found.map(Path::to_path_buf) {
            Some(found) => {
                let index = index.path.clone();
                Some(CheckpointError::WrongFile { name, index, file, found })
            }
            None if opened.is_some() => Some(CheckpointError::MissingTensor { name, file }),
            // The files of later chains are not opened.
            None if chain.is_some_and(|chain| chain >= k.get()) => None,
            None => Some(unexpected(name)),
        }
    }

    /// A safetensors file of the folder that holds tensor `name` although neither the index nor its
    /// own name makes it part of the checkpoint.
    fn elsewhere(&self, name: &str) -> Option<&Path> {
        let others = self.other_files.get_or_init(|| {
            let known = |path: &PathBuf| {
                self.checkpoint.files.iter().any(|file| file.path == *path)
                    || self.unreadable.contains(path)
            };
            let names = names_in(self.dir).unwrap_or_default();
            let safetensors = names.iter().filter(|name| name.ends_with(".safetensors"));
            let paths = safetensors.map(|name| self.dir.join(name)).filter(|path| !known(path));
            let open = |path: PathBuf| WeightFile::open(&path, self.checkpoint.deviations).ok();
            paths.filter_map(open).collect()
        });
        let holds = |file: &&WeightFile| file.info(name).is_some();
        others.iter().find(holds).map(|file| file.path.as_path())
    }

    fn check_all_present(&self, problems: &mut ProblemList) {
        for (name, chain) in self.required() {
            if problems.is_full() {
                return;
            }
            // `check_index` reports a tensor that the index places in the wrong file.
            let in_index = self.index.is_some_and(|index| index.weight_map.contains_key(&name));
            if in_index || self.checkpoint.file_of.contains_key(&name) {
                continue;
            }
            problems.push(match self.index.zip(self.elsewhere(&name)) {
                Some((index, file)) => {
                    let (index, file) = (index.path.clone(), file.into());
                    CheckpointError::NotInIndex { name, index, file }
                }
                None => self.missing(name, self.expected_file(chain)),
            });
        }
    }

    fn missing(&self, name: String, file: PathBuf) -> CheckpointError {
        let Checkpoint { naming, config, file_of, .. } = self.checkpoint;
        let is_paper = *naming == Naming::Paper;
        let found = |name: &str| file_of.contains_key(name);
        match is_paper.then(|| why_missing_in_paper(config, &name, found)).flatten() {
            Some(why) => CheckpointError::NotAsInParams { name, file, why },
            None => CheckpointError::MissingTensor { name, file },
        }
    }

    /// The name and a chain of every tensor that must be present. Tensors that an unreadable file may
    /// hold are left out.
    fn required(&self) -> Box<dyn Iterator<Item = (String, usize)> + '_> {
        let Checkpoint { config, naming, k, .. } = self.checkpoint;
        match naming {
            Naming::Chains => {
                let chains = (0..k.get()).filter(|&chain| {
                    self.index.is_some() || !self.unreadable.contains(&self.expected_file(chain))
                });
                let tensors = chains.flat_map(|chain| config.tensors_of(chain));
                Box::new(tensors.map(|tensor| (tensor.name(), tensor.chain)))
            }
            _ if self.index.is_none() && !self.unreadable.is_empty() => {
                Box::new(std::iter::empty())
            }
            Naming::Dense => Box::new(self.checkpoint.stored_ids().map(|id| (id.dense_name(), 0))),
            Naming::Paper => Box::new(PaperTensor::all(config).map(|tensor| (tensor.name(), 0))),
        }
    }

    /// The file in which a missing tensor of `chain` was expected.
    fn expected_file(&self, chain: usize) -> PathBuf {
        let Checkpoint { config, files, naming, .. } = self.checkpoint;
        match (files.as_slice(), naming) {
            ([only], _) if self.unreadable.is_empty() => only.path.clone(),
            (_, Naming::Chains) => self.dir.join(chain_file(chain, config.chains.count())),
            (_, Naming::Dense) => self.dir.join("model-*-of-*.safetensors"),
            (_, Naming::Paper) => self.dir.into(),
        }
    }

    /// Older programs save RoPE's frequencies, which follow from the config.
    fn is_ignored(&self, name: &str) -> bool {
        match self.checkpoint.naming {
            Naming::Paper => is_rope_table(name),
            Naming::Chains | Naming::Dense => name.ends_with(".rotary_emb.inv_freq"),
        }
    }

    /// Every tensor in the files must belong to the model; none is silently ignored.
    fn check_all_expected(&self, problems: &mut ProblemList) {
        let mut tensors = self.checkpoint.file_of.iter();
        while let Some((name, &file)) = tensors.next() {
            if self.is_ignored(name) || problems.is_full() {
                continue;
            }
            let file = &self.checkpoint.files[file];
            match self.expected_shapes(name) {
                Some(shapes) => {
                    problems.extend(self.check_in_index(file, name));
                    problems.extend(check_shape_and_dtype(file, name, &shapes));
                }
                None => {
                    let further = tensors.clone().map(|(name, _)| name);
                    let further = further.take_while(|_| problems.wants_one());
                    let others = self.unexpected_among(further);
                    problems.push(self.unexpected(name.clone(), file.path.clone(), others));
                }
            }
        }
    }

    /// The first of `names` that the model does not have.
    fn unexpected_among<'n>(&self, names: impl Iterator<Item = &'n String>) -> Vec<String> {
        let is_unexpected =
            |name: &&String| !self.is_ignored(name) && self.expected_shapes(name).is_none();
        names.filter(is_unexpected).take(MAX_OTHERS).cloned().collect()
    }

    /// transformers would initialize a tensor that the index does not name.
    fn check_in_index(&self, file: &WeightFile, name: &str) -> Option<CheckpointError> {
        let index = self.index.filter(|index| !index.weight_map.contains_key(name))?;
        let (name, index, file) = (name.to_owned(), index.path.clone(), file.path.clone());
        Some(CheckpointError::NotInIndex { name, index, file })
    }

    /// The shapes that tensor `name` may have; None if the model has no such tensor.
    fn expected_shapes(&self, name: &str) -> Option<Vec<Vec<usize>>> {
        let Checkpoint { config, naming, .. } = self.checkpoint;
        if *naming == Naming::Paper {
            let tensor = PaperTensor::parse(name)?;
            let exists = tensor.id != TensorId::Head
                || config.has_tensor(TensorId::Head)
                || self.is_tied_head_allowed();
            return exists.then(|| tensor.shape(config))?.map(|shape| vec![shape]);
        }
        match (naming.layout(), TensorId::parse(name)?) {
            (Layout::Chains, (id, Some(chain))) => {
                let exists = config.has_tensor(id) && chain < config.chains.count();
                let tensor = exists.then(|| config.chain_tensor(id, chain))??;
                Some(vec![tensor.shape()])
            }
            (Layout::Dense, (id, None)) => {
                let is_stored = config.has_tensor(id) && !self.checkpoint.is_implied_zero(id);
                let is_copy = id == TensorId::Head && self.is_tied_head_allowed();
                (is_stored || is_copy).then(|| config.dense_shapes(id))
            }
            _ => None,
        }
    }

    /// State dicts hold a shared tensor under each of its names, safetensors files under one.
    fn is_tied_head_allowed(&self) -> bool {
        let state_dict = self.checkpoint.files.iter().any(|file| is_state_dict(&file.path));
        self.checkpoint.config.file.tie_word_embeddings
            && (self.checkpoint.deviations.tied_head_copy || state_dict)
    }

    fn unexpected(&self, name: String, file: PathBuf, others: Vec<String>) -> CheckpointError {
        let (config, why) = match self.checkpoint.naming {
            Naming::Paper => (PARAMS_FILE, why_not_of_paper(&self.checkpoint.config, &name).into()),
            Naming::Chains | Naming::Dense => ("config.json", self.why_unexpected(&name)),
        };
        CheckpointError::UnexpectedTensor { name, file, config, why, others }
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

fn check_shape_and_dtype(
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
    let dtype = info.filter(|info| !is_supported(info.dtype)).map(|info| CheckpointError::Dtype {
        name,
        file,
        found: info.dtype,
    });
    shape.into_iter().chain(dtype)
}
