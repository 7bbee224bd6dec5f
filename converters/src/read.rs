//! Reading a checkpoint in either layout, chain by chain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;
use safetensors::Dtype;

use crate::block::Block;
use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::layout::{chain_file, chain_in_name, Index, Layout, WeightFiles};
use crate::names::ChainTensor;
use crate::weight_file::WeightFile;
use crate::zero_blocks;

/// The first k chains of a checkpoint folder, every tensor present with its shape and dtype.
/// Headers have been read, weights not.
#[derive(Debug)]
pub struct Checkpoint {
    config: ColmConfig,
    k: usize,
    layout: Layout,
    files: Vec<WeightFile>,
    /// From the names of the layout to the position in `files`.
    file_of: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens the first `k` chains of folder `dir`: in the chain layout only their files, in the
    /// dense layout all files. Reads headers and refuses what does not fit `config`: a tensor
    /// missing, unknown, twice, of another shape, or of a dtype other than F32, F16 and BF16.
    pub fn open(dir: &Path, config: &ColmConfig, k: usize) -> Result<Self, CheckpointError> {
        let WeightFiles { paths, index } = WeightFiles::find(dir, config, k)?;
        let files =
            paths.iter().map(|path| WeightFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let file_of = place_tensors(&files)?;
        let layout = one_layout(&file_of)?;
        let checkpoint = Self { config: config.clone(), k, layout, files, file_of };
        if let Some(index) = &index {
            checkpoint.agree_with(index)?;
        }
        checkpoint.require_all(dir)?;
        checkpoint.refuse_unexpected()?;
        Ok(checkpoint)
    }

    /// The layout the tensors' names follow.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// k, the number of chains opened.
    pub fn chains(&self) -> usize {
        self.k
    }

    /// The files opened.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The weights of `tensor`, from either layout.
    ///
    /// # Panics
    /// If `tensor` is none of the config's `tensors(k)` that this checkpoint was opened with.
    pub fn tensor(&self, tensor: &ChainTensor) -> Block<'_> {
        let name = self.name_of(tensor);
        match self.find(&name) {
            Some((_, info, bytes)) if tensor.chain < self.k => match self.layout {
                Layout::Chains => Block::whole(info, bytes),
                Layout::Dense => Block::of_dense(tensor, info, bytes),
            },
            _ => panic!("`{name}` is not of the first {} chains of this checkpoint", self.k),
        }
    }

    /// Reads the weights of a dense layout and refuses a nonzero value where chain i would read
    /// a later chain. Such blocks do not exist in the chain layout.
    pub fn check_zero_blocks(&self) -> Result<(), CheckpointError> {
        if self.layout == Layout::Chains {
            return Ok(());
        }
        for part in self.config.parts() {
            if let Some((file, info, bytes)) = self.find(&part.dense_name()) {
                zero_blocks::check(&self.config, part, info, bytes).map_err(|block| {
                    CheckpointError::NotZero { file: file.path.clone(), block: Box::new(block) }
                })?;
            }
        }
        Ok(())
    }

    fn name_of(&self, tensor: &ChainTensor) -> String {
        match self.layout {
            Layout::Chains => tensor.name(),
            Layout::Dense => tensor.part.dense_name(),
        }
    }

    fn find(&self, name: &str) -> Option<(&WeightFile, &TensorInfo, &[u8])> {
        let file = &self.files[*self.file_of.get(name)?];
        let (info, bytes) = file.tensor(name)?;
        Some((file, info, bytes))
    }

    /// The host finds tensors by the index, so the index must agree with the files opened.
    fn agree_with(&self, index: &Index) -> Result<(), CheckpointError> {
        let count = self.config.chains.count();
        for (name, file) in &index.weight_map {
            let name = name.clone();
            if chain_in_name(&name).is_some_and(|chain| chain >= count) {
                let (file, why) = (index.path.clone(), self.why_unexpected(&name));
                return Err(CheckpointError::UnexpectedTensor { name, file, why });
            }
            let file = index.path.with_file_name(file);
            match self.file_of.get(&name).map(|&found| &self.files[found].path) {
                None if self.files().any(|opened| opened == file) => {
                    return Err(CheckpointError::MissingTensor { name, file })
                }
                Some(found) if *found != file => {
                    let second = found.clone();
                    return Err(CheckpointError::DuplicateTensor { name, first: file, second });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn require_all(&self, dir: &Path) -> Result<(), CheckpointError> {
        for tensor in self.config.tensors(self.k) {
            let name = self.name_of(&tensor);
            if !self.file_of.contains_key(&name) {
                let file = self.expected_file(dir, tensor.chain);
                return Err(CheckpointError::MissingTensor { name, file });
            }
        }
        Ok(())
    }

    /// Where a missing tensor of `chain` should have stood.
    fn expected_file(&self, dir: &Path, chain: usize) -> PathBuf {
        match (self.files.as_slice(), self.layout) {
            ([only], _) => only.path.clone(),
            (_, Layout::Chains) => dir.join(chain_file(chain, self.config.chains.count())),
            (_, Layout::Dense) => dir.join("model-*-of-*.safetensors"),
        }
    }

    /// A tensor that the model would not use is never silently dropped.
    fn refuse_unexpected(&self) -> Result<(), CheckpointError> {
        let expected = self.expected_shapes();
        for (name, &file) in &self.file_of {
            // Old Llama code saved RoPE's frequencies, which follow from the config.
            if name.ends_with(".rotary_emb.inv_freq") {
                continue;
            }
            let file = &self.files[file];
            let Some(shapes) = expected.get(name) else {
                return Err(CheckpointError::UnexpectedTensor {
                    name: name.clone(),
                    file: file.path.clone(),
                    why: self.why_unexpected(name),
                });
            };
            check_header(file, name, shapes)?;
        }
        Ok(())
    }

    /// Every name of the layout, with the shapes it may have.
    fn expected_shapes(&self) -> BTreeMap<String, Vec<Vec<usize>>> {
        match self.layout {
            Layout::Chains => {
                let all = self.config.tensors(self.config.chains.count());
                all.map(|tensor| (tensor.name(), vec![tensor.shape()])).collect()
            }
            Layout::Dense => {
                let all = self.config.parts();
                all.map(|part| (part.dense_name(), self.config.dense_shapes(part))).collect()
            }
        }
    }

    fn why_unexpected(&self, name: &str) -> String {
        let count = self.config.chains.count();
        match chain_in_name(name) {
            Some(chain) if chain >= count => {
                format!(
                    "`chains` has {count} entries, so chains in names go from 0 to {}",
                    count - 1
                )
            }
            _ if name.starts_with("lm_head.") && self.config.file.tie_word_embeddings => {
                "`tie_word_embeddings` is true".into()
            }
            _ if name.ends_with(".bias") => {
                "expected biases only of projections, with `attention_bias` or `mlp_bias`".into()
            }
            _ => "expected only the tensors of its layers and chains".into(),
        }
    }
}

fn place_tensors(files: &[WeightFile]) -> Result<BTreeMap<String, usize>, CheckpointError> {
    let mut file_of = BTreeMap::new();
    for (position, file) in files.iter().enumerate() {
        for name in file.names() {
            if let Some(first) = file_of.insert(name.clone(), position) {
                let (first, second) = (files[first].path.clone(), file.path.clone());
                return Err(CheckpointError::DuplicateTensor { name, first, second });
            }
        }
    }
    Ok(file_of)
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
) -> Result<(), CheckpointError> {
    let (name, file, info) = match file.tensor(name) {
        Some((info, _)) => (name.to_owned(), file.path.clone(), info),
        None => {
            let (name, file) = (name.to_owned(), file.path.clone());
            return Err(CheckpointError::MissingTensor { name, file });
        }
    };
    if !shapes.contains(&info.shape) {
        let expected: Vec<_> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
        let (found, expected) = (info.shape.clone(), expected.join(" or "));
        return Err(CheckpointError::Shape { name, file, found, expected });
    }
    match info.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
        found => Err(CheckpointError::Dtype { name, file, found }),
    }
}
