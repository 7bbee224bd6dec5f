//! Reading a checkpoint in either layout, chain by chain.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use safetensors::Dtype;

use crate::block::Block;
use crate::chain_count::ChainCount;
use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::layout::Layout;
use crate::names::{ChainTensor, Part, Projection};
use crate::plan::DenseKv;
use crate::problems::Problems;
use crate::weight_file::{is_readable, WeightFile};
use crate::zero_blocks::{self, NonzeroBlock};

/// The first k chains of a checkpoint folder, every tensor present with its shape and dtype.
/// Headers have been read, weights not.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) config: ColmConfig,
    pub(crate) k: ChainCount,
    pub(crate) layout: Layout,
    pub(crate) files: Vec<WeightFile>,
    /// From the names of the layout to the position in `files`.
    pub(crate) file_of: BTreeMap<String, usize>,
    pub(crate) leniency: Leniency,
}

/// How a folder may differ from SPEC 4 and yet leave no doubt about what it holds. None of it by
/// default: the engine is as strict as SPEC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leniency {
    /// Weights may stand in PyTorch state dicts.
    pub state_dicts: bool,
    /// With `attention_bias`, o_proj has none and is given zeros.
    pub no_o_bias: bool,
    /// A tied `lm_head.weight` may stand beside the embedding that it equals.
    pub head_copy: bool,
}

impl Checkpoint {
    /// Opens the first `k` chains of folder `dir`: in the chain layout only their files, in the
    /// dense layout all files. Reads headers and refuses what does not fit `config`: a tensor
    /// missing, unknown, twice, of another shape, or of a dtype other than F32, F16 and BF16.
    pub fn open(dir: &Path, config: &ColmConfig, k: ChainCount) -> Result<Self, CheckpointError> {
        Self::open_leniently(dir, config, k, Leniency::default())
    }

    pub(crate) fn open_leniently(
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        leniency: Leniency,
    ) -> Result<Self, CheckpointError> {
        let mut problems = Problems::first();
        let checkpoint = Self::survey(dir, config, k, leniency, &mut problems);
        problems.into_first().map_or(checkpoint, Err)
    }

    /// The layout the tensors' names follow.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// k, the number of chains opened.
    pub fn chain_count(&self) -> ChainCount {
        self.k
    }

    /// The files opened.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// F32, F16 or BF16, by the header.
    ///
    /// # Panics
    /// If `tensor` is none of the config's `tensors(k)` that this checkpoint was opened with.
    pub fn dtype(&self, tensor: &ChainTensor) -> Dtype {
        match (self.makes_up(tensor.part), tensor.part) {
            (true, Part::Bias { layer, projection }) => {
                let part = Part::Weight { layer, projection };
                self.dtype(&ChainTensor { part, ..tensor.clone() })
            }
            _ => self.held(tensor).1.dtype,
        }
    }

    /// The weights of `tensor`, from either layout.
    ///
    /// # Panics
    /// If `tensor` is none of the config's `tensors(k)` that this checkpoint was opened with.
    pub fn tensor(&self, tensor: &ChainTensor) -> Block<'_> {
        if self.makes_up(tensor.part) {
            return Block::zeros(self.dtype(tensor), tensor.shape());
        }
        let (file, info) = self.held(tensor);
        let bytes = file.bytes(&self.name_of(tensor)).unwrap_or_default();
        match self.layout {
            Layout::Chains => Block::whole(info, bytes),
            Layout::Dense => Block::of_dense(tensor, info, bytes),
        }
    }

    /// Whether `tensor` is one of the config's `tensors(k)`.
    pub(crate) fn holds(&self, tensor: &ChainTensor) -> bool {
        let of_config = (tensor.chain < self.k.get())
            .then(|| self.config.chain_tensor(tensor.part, tensor.chain))
            .flatten();
        let is_there = self.makes_up(tensor.part) || self.find(&self.name_of(tensor)).is_some();
        of_config.as_ref() == Some(tensor) && is_there
    }

    /// The file that holds `tensor`, and what its header says of it.
    fn held(&self, tensor: &ChainTensor) -> (&WeightFile, &TensorInfo) {
        let name = self.name_of(tensor);
        match self.find(&name) {
            Some((file, info)) if tensor.chain < self.k.get() => (file, info),
            _ => panic!("`{name}` is not of the first {} chains of this checkpoint", self.k),
        }
    }

    /// Which columns Air's dense k and v have.
    pub(crate) fn dense_kv(&self) -> DenseKv {
        if self.layout == Layout::Chains {
            return DenseKv::remembered(&self.config.file);
        }
        let narrow = self.config.parts().filter(|&part| {
            let found = self.find(&part.dense_name());
            found.is_some_and(|(_, info)| info.shape != self.config.dense_shapes(part)[0])
        });
        DenseKv::of_first_chain(narrow.map(|part| part.dense_name()))
    }

    /// Lets go of the files' pages in memory.
    pub(crate) fn release_pages(&self) -> Result<(), CheckpointError> {
        self.files.iter().try_for_each(WeightFile::release_pages)
    }

    /// Reads the weights of a dense layout and refuses a nonzero value where chain i would read
    /// a later chain. Such blocks do not exist in the chain layout.
    pub fn check_zero_blocks(&self) -> Result<(), CheckpointError> {
        self.nonzero_blocks().try_for_each(|found| {
            let (file, block) = found?;
            Err(CheckpointError::NotZero { file: file.into(), block: Box::new(block) })
        })
    }

    /// Every block of the dense layout that must be zero and is not, and its file.
    pub(crate) fn nonzero_blocks(
        &self,
    ) -> impl Iterator<Item = Result<(&Path, NonzeroBlock), CheckpointError>> {
        let parts = (self.layout == Layout::Dense).then(|| self.parts_held());
        let matrices = parts.into_iter().flatten().filter(|p| matches!(p, Part::Weight { .. }));
        matrices.flat_map(|part| {
            let (blocks, released) = (self.nonzero_in(part), self.release_pages());
            blocks.into_iter().map(Ok).chain(released.err().map(Err))
        })
    }

    /// Those of one dense tensor.
    pub(crate) fn nonzero_in(&self, part: Part) -> Vec<(&Path, NonzeroBlock)> {
        let name = part.dense_name();
        let fits = |info: &TensorInfo| {
            is_readable(info.dtype) && self.config.dense_shapes(part).contains(&info.shape)
        };
        let Some((file, info)) = self.find(&name).filter(|(_, info)| fits(info)) else {
            return Vec::new();
        };
        let bytes = file.bytes(&name).unwrap_or_default();
        let blocks = zero_blocks::nonzero(&self.config, part, info, &bytes);
        blocks.into_iter().map(|block| (file.path.as_path(), block)).collect()
    }

    /// Refuses a tied head that stands beside the embedding and differs from it.
    pub(crate) fn check_head_copy(&self) -> Result<(), CheckpointError> {
        let (head, embedding) = (Part::Head.dense_name(), Part::Embedding.dense_name());
        let held = (self.find(&head), self.find(&embedding));
        let (Some((file, info)), Some((other, tied_to))) = held else {
            return Ok(());
        };
        if !self.config.file.tie_word_embeddings
            || (&file.path, info.data_offsets) == (&other.path, tied_to.data_offsets)
        {
            return Ok(());
        }
        if info.dtype == tied_to.dtype && file.bytes(&head) == other.bytes(&embedding) {
            return self.release_pages();
        }
        Err(CheckpointError::HeadCopy { file: file.path.clone() })
    }

    /// Every tensor of `chain` (from 0) that stands in the files, not made up.
    pub(crate) fn tensors_held(&self, chain: usize) -> impl Iterator<Item = ChainTensor> + '_ {
        self.config.tensors_of(chain).filter(|tensor| !self.makes_up(tensor.part))
    }

    /// Every part that stands in the files, not made up.
    pub(crate) fn parts_held(&self) -> impl Iterator<Item = Part> + '_ {
        self.config.parts().filter(|part| !self.makes_up(*part))
    }

    /// Whether `part` stands in no file and is zeros.
    pub(crate) fn makes_up(&self, part: Part) -> bool {
        self.leniency.no_o_bias && matches!(part, Part::Bias { projection: Projection::O, .. })
    }

    /// The name of `tensor` in this layout.
    pub(crate) fn name_of(&self, tensor: &ChainTensor) -> String {
        match self.layout {
            Layout::Chains => tensor.name(),
            Layout::Dense => tensor.part.dense_name(),
        }
    }

    /// The file that holds tensor `name`, and what its header says of it.
    pub(crate) fn find(&self, name: &str) -> Option<(&WeightFile, &TensorInfo)> {
        let file = &self.files[*self.file_of.get(name)?];
        Some((file, file.info(name)?))
    }
}
