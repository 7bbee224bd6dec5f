//! What a checkpoint to be written consists of: the one form every conversion takes.
//!
//! A conversion only says, for every tensor of the new checkpoint, what its rectangles are filled
//! with; [`Plan::write`] is the only code that moves weights.

use std::collections::BTreeSet;
use std::ops::Range;

use safetensors::Dtype;
use serde_json::Value;

use crate::config::{ColmConfig, ConfigFile};
use crate::error::CheckpointError;
use crate::layout::{chain_file, Layout, SINGLE_FILE};
use crate::names::{ChainTensor, Part};

/// A checkpoint to be written: the text of its config.json and its weight files.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) config: String,
    pub(crate) files: Vec<PlannedFile>,
    /// Whether `model.safetensors.index.json` is written.
    pub(crate) indexed: bool,
}

/// A safetensors file to be written.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    /// The plain name inside the folder.
    pub name: String,
    /// In the order of the file: by dtype, larger first, then by name.
    pub tensors: Vec<PlannedTensor>,
}

/// A tensor to be written. What no rectangle covers is zero.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// The name in the file.
    pub name: String,
    /// F32, F16 or BF16. Weights of another dtype are cast, rounding to nearest even.
    pub dtype: Dtype,
    /// `[rows, columns]`, or `[rows]` for a vector.
    pub shape: Vec<usize>,
    /// Disjoint.
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
    pub content: Content,
}

/// What fills a rectangle.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The source's tensor of this name and place, which has the rectangle's shape.
    Source(ChainTensor),
    /// 0 everywhere.
    Zeros,
    /// 1 everywhere: a norm that has not been trained.
    Ones,
    /// Independent normal values of mean 0.
    Normal(Normal),
}

/// Normal values that depend on the seed, the stream and their place, on nothing else: not on the
/// layout, nor on the order of writing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    /// Chosen by the user.
    pub seed: u64,
    /// Tells the tensors of one model apart.
    pub stream: u64,
    /// Standard deviation.
    pub std: f32,
}

impl Plan {
    /// A checkpoint of `config` in `layout`. `content` gives dtype and values of each chain's
    /// tensors. In the dense layout Air's k and v have the columns of `dense_kv`.
    ///
    /// Fails if `content` does, or if it gives two dtypes to one dense tensor.
    pub fn new(
        config: &ColmConfig,
        layout: Layout,
        dense_kv: &DenseKv,
        mut content: impl FnMut(&ChainTensor) -> Result<(Dtype, Content), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let files = match layout {
            Layout::Chains => {
                let count = config.chains.count();
                let file = |chain| {
                    let planned = config.tensors_of(chain).map(|tensor| {
                        let (dtype, content) = content(&tensor)?;
                        Ok(PlannedTensor::whole(&tensor, dtype, content))
                    });
                    let tensors = planned.collect::<Result<_, CheckpointError>>()?;
                    Ok(PlannedFile::new(chain_file(chain, count), tensors))
                };
                (0..count).map(file).collect::<Result<_, CheckpointError>>()?
            }
            Layout::Dense => {
                let planned = config
                    .parts()
                    .map(|part| PlannedTensor::dense(config, part, dense_kv, &mut content));
                let tensors = planned.collect::<Result<_, _>>()?;
                vec![PlannedFile::new(SINGLE_FILE.into(), tensors)]
            }
        };
        let mut fields = config.file.clone();
        dense_kv.remember(layout, &mut fields);
        let config = serde_json::to_string_pretty(&fields).map_err(CheckpointError::Json)?;
        Ok(Self { config, files, indexed: layout == Layout::Chains })
    }

    /// The weight files.
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// The text of config.json.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Bytes of all tensors together.
    pub fn byte_len(&self) -> u64 {
        self.tensors().fold(0, |sum, tensor| sum.saturating_add(tensor.byte_len() as u64))
    }

    /// Elements of all tensors together.
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
    fn whole(tensor: &ChainTensor, dtype: Dtype, content: Content) -> Self {
        let shape = tensor.shape();
        let columns = 0..shape.get(1).copied().unwrap_or(1);
        let rectangles = vec![Rectangle { rows: 0..shape[0], columns, content }];
        Self { name: tensor.name(), dtype, shape, rectangles }
    }

    /// A tensor of the dense layout: the tensors of all chains, each at its place.
    fn dense(
        config: &ColmConfig,
        part: Part,
        dense_kv: &DenseKv,
        content: &mut impl FnMut(&ChainTensor) -> Result<(Dtype, Content), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let name = part.dense_name();
        let mut dtype = None;
        let mut rectangles = Vec::new();
        let count = config.chains.count();
        for tensor in (0..count).filter_map(|chain| config.chain_tensor(part, chain)) {
            let (next, content) = content(&tensor)?;
            let first = *dtype.get_or_insert(next);
            if first != next {
                return Err(CheckpointError::MixedDtypes { name, first, second: next });
            }
            let columns = tensor.columns.unwrap_or(0..1);
            rectangles.push(Rectangle { rows: tensor.rows, columns, content });
        }
        let mut shapes = config.dense_shapes(part);
        let shape = match dense_kv.of_first_chain.contains(&name) {
            false => shapes.swap_remove(0),
            true => shapes.pop().unwrap_or_default(),
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

/// Which of Air's dense k and v stop after the columns of chain 1: SPEC 4 allows both. The chain layout
/// has no such choice; which tensors of its dense form had made it stands in its config.json as
/// `"dense_kv_of_first_chain": [names]`, for the way back.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DenseKv {
    /// The dense names of the tensors of `[kv * head_dim, hidden_1]`. The others are
    /// `[kv * head_dim, hidden]`, as in Llama, with zeros past chain 1.
    of_first_chain: BTreeSet<String>,
}

impl DenseKv {
    const FIELD: &str = "dense_kv_of_first_chain";

    /// The tensors that have these names.
    pub(crate) fn of_first_chain(names: impl IntoIterator<Item = String>) -> Self {
        Self { of_first_chain: names.into_iter().collect() }
    }

    /// What the config of a chain layout remembers.
    pub(crate) fn remembered(config: &ConfigFile) -> Self {
        let names = config.other.get(Self::FIELD).and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        Self::of_first_chain(names.map(str::to_owned))
    }

    fn remember(&self, layout: Layout, fields: &mut ConfigFile) {
        fields.other.remove(Self::FIELD);
        if layout == Layout::Chains && !self.of_first_chain.is_empty() {
            let names = self.of_first_chain.iter().cloned().map(Value::String);
            fields.other.insert(Self::FIELD.into(), names.collect());
        }
    }
}
