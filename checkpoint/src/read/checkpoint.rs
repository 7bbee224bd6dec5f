//! An open checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use safetensors::Dtype;

use super::naming::Naming;
use super::tensor_slice::TensorSlice;
use super::weight_file::WeightFile;
use crate::config::{ChainCount, ColmConfig};
use crate::format::{
    find_nonzero, is_supported, AllowedDeviations, ChainTensor, CheckpointError, DenseKv, Layout,
    NonzeroSubmatrix, TensorId,
};
use crate::paper::Order;

/// The first k chains of a checkpoint folder. Every tensor is present with its shape and dtype.
/// Headers have been read and files mapped; weights are read when they are used.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) config: ColmConfig,
    pub(super) k: ChainCount,
    pub(super) naming: Naming,
    pub(super) files: Vec<WeightFile>,
    /// From the name of a tensor to the index of its file in `files`.
    pub(super) file_of: BTreeMap<String, usize>,
    pub(super) deviations: AllowedDeviations,
}

impl Checkpoint {
    /// The layout of the tensors.
    pub fn layout(&self) -> Layout {
        self.naming.layout()
    }

    pub(crate) fn naming(&self) -> Naming {
        self.naming
    }

    /// The chain count that is opened.
    pub fn chain_count(&self) -> ChainCount {
        self.k
    }

    /// The files opened.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The dtype of `tensor` in its file: F32, F16 or BF16.
    ///
    /// # Panics
    /// If `tensor` is not one of the config's `tensors(k)` that this checkpoint was opened with.
    pub fn dtype(&self, tensor: &ChainTensor) -> Dtype {
        match (self.is_implied_zero(tensor.id), tensor.id) {
            (true, TensorId::Bias { layer, projection }) => {
                let id = TensorId::Weight { layer, projection };
                self.dtype(&ChainTensor { id, ..tensor.clone() })
            }
            _ => self.locate(tensor).1.dtype,
        }
    }

    /// The dtype of the first matrix.
    pub(super) fn matrix_dtype(&self) -> Dtype {
        let is_matrix = |tensor: &ChainTensor| matches!(tensor.id, TensorId::Weight { .. });
        self.config.tensors_of(0).find(is_matrix).map_or(Dtype::F32, |tensor| self.dtype(&tensor))
    }

    /// The weights of `tensor`.
    ///
    /// # Panics
    /// If `tensor` is not one of the config's `tensors(k)` that this checkpoint was opened with.
    pub fn tensor(&self, tensor: &ChainTensor) -> TensorSlice<'_> {
        if self.is_implied_zero(tensor.id) {
            return TensorSlice::zeros(self.dtype(tensor), tensor.shape());
        }
        let (file, info) = self.locate(tensor);
        let bytes = file.bytes(&self.name_of(tensor)).unwrap_or_default();
        match (self.naming, tensor.id) {
            (Naming::Chains, _) => TensorSlice::whole(info, bytes),
            (Naming::Paper, TensorId::Weight { .. }) => match Order::of(&self.config, tensor) {
                Some(order) => TensorSlice::in_order(info, &bytes, &order.rows, &order.columns),
                None => TensorSlice::whole(info, bytes),
            },
            (Naming::Dense | Naming::Paper, _) => TensorSlice::of_dense(tensor, info, bytes),
        }
    }

    /// Whether `tensor` is one of the config's `tensors(k)`.
    pub(super) fn contains(&self, tensor: &ChainTensor) -> bool {
        let of_config = (tensor.chain < self.k.get())
            .then(|| self.config.chain_tensor(tensor.id, tensor.chain))
            .flatten();
        let exists = self.is_implied_zero(tensor.id) || self.find(&self.name_of(tensor)).is_some();
        of_config.as_ref() == Some(tensor) && exists
    }

    /// The file that holds `tensor`, and its entry in the header.
    fn locate(&self, tensor: &ChainTensor) -> (&WeightFile, &TensorInfo) {
        let name = self.name_of(tensor);
        match self.find(&name) {
            Some((file, info)) if tensor.chain < self.k.get() => (file, info),
            _ => panic!("`{name}` is not of the first {} chains of this checkpoint", self.k),
        }
    }

    /// The shapes of Air's dense k and v.
    pub(super) fn dense_kv(&self) -> DenseKv {
        if self.layout() == Layout::Chains {
            return DenseKv::from_config(&self.config.file);
        }
        let narrow = self.config.tensor_ids().filter(|&id| {
            let found = self.find(&id.dense_name());
            found.is_some_and(|(_, info)| info.shape != self.config.dense_shapes(id)[0])
        });
        DenseKv::with_narrow(narrow.map(|id| id.dense_name()))
    }

    /// Releases the memory of the mapped pages.
    pub fn release_pages(&self) -> Result<(), CheckpointError> {
        self.files.iter().try_for_each(WeightFile::release_pages)
    }

    /// Checks that the weights of a dense layout are zero wherever a chain would read a later one
    /// (`docs/spec.md#dense-layout`). This reads the weights. The chain layout has no such values.
    ///
    /// # Errors
    /// If a value is not zero. The error is [`CheckpointError::NotZero`], for the first submatrix.
    pub fn check_zero_submatrices(&self) -> Result<(), CheckpointError> {
        self.nonzero_submatrices().try_for_each(|found| {
            let (file, submatrix) = found?;
            Err(CheckpointError::NotZero { file: file.into(), submatrix: Box::new(submatrix) })
        })
    }

    /// Every submatrix of a dense layout that must be zero and is not, and its file.
    pub(crate) fn nonzero_submatrices(
        &self,
    ) -> impl Iterator<Item = Result<(&Path, NonzeroSubmatrix), CheckpointError>> {
        let ids = (self.naming == Naming::Dense).then(|| self.stored_ids());
        let matrices = ids.into_iter().flatten().filter(|id| matches!(id, TensorId::Weight { .. }));
        matrices.flat_map(|id| {
            let (found, released) = (self.nonzero_in(id), self.release_pages());
            found.into_iter().map(Ok).chain(released.err().map(Err))
        })
    }

    /// The nonzero submatrices of one dense tensor.
    fn nonzero_in(&self, id: TensorId) -> Vec<(&Path, NonzeroSubmatrix)> {
        let name = id.dense_name();
        let fits = |info: &TensorInfo| {
            is_supported(info.dtype) && self.config.dense_shapes(id).contains(&info.shape)
        };
        let Some((file, info)) = self.find(&name).filter(|(_, info)| fits(info)) else {
            return Vec::new();
        };
        let bytes = file.bytes(&name).unwrap_or_default();
        let found = find_nonzero(&self.config, id, info, &bytes);
        found.into_iter().map(|submatrix| (file.path.as_path(), submatrix)).collect()
    }

    /// Checks that a tied head, if the files have one, equals the embedding. This reads both.
    ///
    /// # Errors
    /// If they differ, or if the pages cannot be released.
    pub fn check_tied_head(&self) -> Result<(), CheckpointError> {
        if self.naming == Naming::Chains {
            return Ok(());
        }
        let [head, embedding] = [TensorId::Head, TensorId::Embedding]
            .map(|id| self.naming.name_of_share(&self.config, id, 0));
        let found = (self.find(&head), self.find(&embedding));
        let (Some((file, info)), Some((other, tied_to))) = found else {
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
        Err(CheckpointError::UntiedHead { file: file.path.clone(), head, embedding })
    }

    /// Every tensor of `chain` (from 0) that is stored in the files.
    pub(crate) fn stored_tensors(&self, chain: usize) -> impl Iterator<Item = ChainTensor> + '_ {
        self.config.tensors_of(chain).filter(|tensor| !self.is_implied_zero(tensor.id))
    }

    /// Every tensor that is stored in the files.
    pub(super) fn stored_ids(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.config.tensor_ids().filter(|id| !self.is_implied_zero(*id))
    }

    /// Whether tensor `id` is in no file and consists of zeros.
    pub(super) fn is_implied_zero(&self, id: TensorId) -> bool {
        self.deviations.implies_zero(id)
    }

    /// The name of the tensor that holds `tensor`.
    fn name_of(&self, tensor: &ChainTensor) -> String {
        self.naming.name_of(&self.config, tensor)
    }

    /// The names of all tensors in the files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.file_of.keys()
    }

    /// The file that holds tensor `name`, and its entry in the header.
    pub(crate) fn find(&self, name: &str) -> Option<(&WeightFile, &TensorInfo)> {
        let file = &self.files[*self.file_of.get(name)?];
        Some((file, file.info(name)?))
    }
}
