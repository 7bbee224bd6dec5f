//! The checkpoint that a conversion writes.

use std::ops::Range;

use safetensors::Dtype;

use super::gaussian::Gaussian;
use crate::config::ColmConfig;
use crate::format::{
    chain_file, ChainTensor, CheckpointError, DenseKv, Layout, TensorId, SINGLE_FILE,
};
use crate::read::Source;

/// A checkpoint to be written: the text of its config.json, its weight files, and Python files if there are any.
#[derive(Clone, Debug)]
pub struct ConversionPlan {
    pub(crate) config: String,
    pub(crate) files: Vec<PlannedFile>,
    /// Whether `model.safetensors.index.json` is written.
    pub(crate) has_index: bool,
    /// Names and texts.
    pub(crate) python_files: &'static [(&'static str, &'static str)],
    /// Whether the README of the source describes this checkpoint too.
    pub(crate) keeps_readme: bool,
}

/// A safetensors file to be written.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    /// The file name, without a folder.
    pub name: String,
    /// The tensors in the order of the file: by dtype, larger first, then by name.
    pub tensors: Vec<PlannedTensor>,
}

/// A tensor to be written. Where no rectangle covers it, it is zero.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// The name in the file.
    pub name: String,
    /// F32, F16 or BF16. Weights of another dtype are cast, rounded to nearest, ties to even.
    pub dtype: Dtype,
    /// `[rows, columns]`, or `[rows]` for a vector.
    pub shape: Vec<usize>,
    /// The parts that are filled. They are disjoint.
    pub rectangles: Vec<Rectangle>,
}

/// Some rows and columns of a tensor, and what fills them. A vector has one column.
#[derive(Clone, Debug)]
pub struct Rectangle {
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// Columns of the tensor.
    pub columns: Range<usize>,
    /// The values.
    pub fill: Fill,
}

/// The values of a rectangle.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// This tensor of the source. It has the shape of the rectangle.
    Source(ChainTensor),
    /// 0 everywhere.
    Zeros,
    /// 1 everywhere, as in a norm before training.
    Ones,
    /// Random values.
    Gaussian(Gaussian),
}

impl ConversionPlan {
    /// A checkpoint of `config` in `layout`. `fill` gives dtype and values of each chain's tensor.
    /// In the dense layout, Air's k and v have the shapes of `dense_kv`.
    ///
    /// # Errors
    /// If `fill` fails, or if it gives the chains of one dense tensor two dtypes.
    pub fn new(
        config: &ColmConfig,
        layout: Layout,
        dense_kv: &DenseKv,
        mut fill: impl FnMut(&ChainTensor) -> Result<(Dtype, Fill), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let files = match layout {
            Layout::Chains => {
                let count = config.chains.count();
                let file = |chain| {
                    let planned = config.tensors_of(chain).map(|tensor| {
                        let (dtype, fill) = fill(&tensor)?;
                        Ok(PlannedTensor::of_chain(&tensor, dtype, fill))
                    });
                    let tensors = planned.collect::<Result<_, CheckpointError>>()?;
                    Ok(PlannedFile::new(chain_file(chain, count), tensors))
                };
                (0..count).map(file).collect::<Result<_, CheckpointError>>()?
            }
            Layout::Dense => {
                let planned = config
                    .tensor_ids()
                    .map(|id| PlannedTensor::dense(config, id, dense_kv, &mut fill));
                let tensors = planned.collect::<Result<_, _>>()?;
                vec![PlannedFile::new(SINGLE_FILE.into(), tensors)]
            }
        };
        let mut fields = config.file.clone();
        dense_kv.record(layout, &mut fields);
        let config = serde_json::to_string_pretty(&fields).map_err(CheckpointError::Json)?;
        let has_index = layout == Layout::Chains;
        Ok(Self { config, files, has_index, python_files: &[], keeps_readme: false })
    }

    /// All of `source` in `layout`. The model stays the same, and so does its README; that of a Llama describes no CoLM.
    pub(super) fn of_layout(source: &Source, layout: Layout) -> Result<Self, CheckpointError> {
        let (config, dense_kv) = (source.config(), source.dense_kv());
        let plan = Self::new(config, layout, &dense_kv, unchanged(source))?;
        Ok(Self { keeps_readme: !source.is_llama(), ..plan })
    }

    /// The same checkpoint, whose weights the README of the source does not describe: it becomes `SOURCE_README.md`.
    #[must_use]
    pub fn with_other_weights(self) -> Self {
        Self { keeps_readme: false, ..self }
    }

    /// The weight files.
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// The text of config.json.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Bytes of all tensors.
    pub fn byte_len(&self) -> u64 {
        self.tensors().fold(0, |sum, tensor| sum.saturating_add(tensor.byte_len() as u64))
    }

    /// Elements of all tensors.
    pub fn parameters(&self) -> u128 {
        let elements = |tensor: &PlannedTensor| -> u128 {
            let (rows, columns) = tensor.rows_and_columns();
            rows as u128 * columns as u128
        };
        self.tensors().map(elements).sum()
    }

    /// The tensors of all files.
    pub fn tensors(&self) -> impl Iterator<Item = &PlannedTensor> {
        self.files.iter().flat_map(|file| &file.tensors)
    }
}

/// The `fill` of a [`ConversionPlan`] that takes every tensor from `source` unchanged.
pub(super) fn unchanged(
    source: &Source,
) -> impl Fn(&ChainTensor) -> Result<(Dtype, Fill), CheckpointError> + '_ {
    |tensor| Ok((source.dtype(tensor), Fill::Source(tensor.clone())))
}

impl PlannedFile {
    fn new(name: String, mut tensors: Vec<PlannedTensor>) -> Self {
        tensors.sort_by(|one, other| {
            other.dtype.cmp(&one.dtype).then_with(|| one.name.cmp(&other.name))
        });
        Self { name, tensors }
    }
}

impl PlannedTensor {
    /// A tensor of the chain layout.
    fn of_chain(tensor: &ChainTensor, dtype: Dtype, fill: Fill) -> Self {
        let shape = tensor.shape();
        let columns = 0..shape.get(1).copied().unwrap_or(1);
        let rectangles = vec![Rectangle { rows: 0..shape[0], columns, fill }];
        Self { name: tensor.name(), dtype, shape, rectangles }
    }

    /// A tensor of the dense layout, made of the tensors of all chains.
    fn dense(
        config: &ColmConfig,
        id: TensorId,
        dense_kv: &DenseKv,
        fill: &mut impl FnMut(&ChainTensor) -> Result<(Dtype, Fill), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let name = id.dense_name();
        let mut dtype = None;
        let mut rectangles = Vec::new();
        let count = config.chains.count();
        for tensor in (0..count).filter_map(|chain| config.chain_tensor(id, chain)) {
            let (next, fill) = fill(&tensor)?;
            let first = *dtype.get_or_insert(next);
            if first != next {
                return Err(CheckpointError::MixedDtypes { name, first, second: next });
            }
            let columns = tensor.columns.unwrap_or(0..1);
            rectangles.push(Rectangle { rows: tensor.rows, columns, fill });
        }
        let mut shapes = config.dense_shapes(id);
        let shape = if dense_kv.is_narrow(id) {
            shapes.pop().unwrap_or_default()
        } else {
            shapes.swap_remove(0)
        };
        let dtype = dtype.unwrap_or(Dtype::F32);
        Ok(Self { name, dtype, shape, rectangles })
    }

    /// Rows and columns; a vector has one column.
    pub fn rows_and_columns(&self) -> (usize, usize) {
        (self.shape.first().copied().unwrap_or(1), self.shape.get(1).copied().unwrap_or(1))
    }

    /// Bytes of a row.
    pub(crate) fn row_len(&self) -> usize {
        self.rows_and_columns().1 * self.dtype.bitsize() / 8
    }

    /// Bytes of the tensor.
    pub fn byte_len(&self) -> usize {
        self.rows_and_columns().0 * self.row_len()
    }
}
