//! The weights of one chain's tensor, where they stand in a file of either layout.

use std::borrow::Cow;
use std::ops::Range;

use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, View};

use crate::names::ChainTensor;

/// The weights of one chain's tensor where they stand in the file: a whole tensor of the chain
/// layout, or some columns of some rows of a dense one. What stands in no order there, or in no
/// file, is in memory.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
    /// Of `bytes`, from the first byte of the first row to the last byte of the last.
    within: Range<usize>,
    /// Bytes in a row, and from one row to the next.
    row: usize,
    stride: usize,
}

impl<'a> Block<'a> {
    pub(crate) fn whole(info: &TensorInfo, bytes: Cow<'a, [u8]>) -> Self {
        Self::together(info.dtype, info.shape.clone(), bytes)
    }

    /// Zeros that stand in no file.
    pub(crate) fn zeros(dtype: Dtype, shape: Vec<usize>) -> Self {
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        Self::together(dtype, shape, Cow::Owned(vec![0; length]))
    }

    fn together(dtype: Dtype, shape: Vec<usize>, bytes: Cow<'a, [u8]>) -> Self {
        let stride = bytes.len();
        Self { dtype, shape, bytes, within: 0..stride, row: stride, stride }
    }

    pub(crate) fn of_dense(tensor: &ChainTensor, info: &TensorInfo, bytes: Cow<'a, [u8]>) -> Self {
        let size = info.dtype.bitsize() / 8;
        let rows = tensor.rows.clone();
        let (width, columns) = match (&info.shape[..], &tensor.columns) {
            ([_, width], Some(columns)) => (*width, columns.clone()),
            _ => (1, 0..1),
        };
        let begin = (rows.start * width + columns.start) * size;
        let end = ((rows.end - 1) * width + columns.end) * size;
        let whole_rows = columns.len() == width;
        Self {
            dtype: info.dtype,
            shape: tensor.shape(),
            bytes,
            within: begin..end,
            row: if whole_rows { end - begin } else { columns.len() * size },
            stride: if whole_rows { end - begin } else { width * size },
        }
    }

    /// F32, F16 or BF16.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The chain tensor's shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes (little-endian, row-major) piece by piece, in order; one piece if they stand
    /// together in the file.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[self.within.clone()].chunks(self.stride).map(|chunk| &chunk[..self.row])
    }

    /// The bytes (little-endian, row-major); copied only if they do not stand together.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.row == self.stride {
            return Cow::Borrowed(&self.bytes[self.within.clone()]);
        }
        let mut gathered = Vec::with_capacity(self.byte_len());
        for piece in self.pieces() {
            gathered.extend_from_slice(piece);
        }
        Cow::Owned(gathered)
    }

    fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

impl View for Block<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes()
    }

    fn data_len(&self) -> usize {
        self.byte_len()
    }
}
