//! The weights of one chain's tensor in a file of either layout.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, View};

use crate::format::ChainTensor;

/// The weights of one chain's tensor: a whole tensor of the chain layout, or a submatrix of a dense tensor. They are
/// borrowed from the mapped file if they are contiguous or strided by rows there, and owned otherwise.
///
/// As a [`safetensors::View`] it can be written with the safetensors crate.
#[derive(Clone, Debug)]
pub struct TensorSlice<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
    /// The range of `bytes` from the first byte of the first row to the last byte of the last.
    range: Range<usize>,
    /// Bytes of a row. All rows count as one if they are contiguous.
    row: usize,
    /// Bytes from one row to the next.
    stride: usize,
}

impl<'a> TensorSlice<'a> {
    /// All of the tensor whose values are `bytes`.
    pub(crate) fn whole(info: &TensorInfo, bytes: Cow<'a, [u8]>) -> Self {
        Self::contiguous(info.dtype, info.shape.clone(), bytes)
    }

    /// A tensor of zeros.
    pub(crate) fn zeros(dtype: Dtype, shape: Vec<usize>) -> Self {
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        Self::contiguous(dtype, shape, Cow::Owned(vec![0; length]))
    }

    fn contiguous(dtype: Dtype, shape: Vec<usize>, bytes: Cow<'a, [u8]>) -> Self {
        let stride = bytes.len();
        Self { dtype, shape, bytes, range: 0..stride, row: stride, stride }
    }

    /// The rows and columns of `tensor` in the dense tensor whose values are `bytes`.
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
            range: begin..end,
            row: if whole_rows { end - begin } else { columns.len() * size },
            stride: if whole_rows { end - begin } else { width * size },
        }
    }

    /// A copy of a matrix with its rows and columns in another order: row i is row `rows[i]` of the stored one, and has
    /// its `columns` from left to right.
    pub(crate) fn in_order(
        info: &TensorInfo,
        bytes: &[u8],
        rows: &[usize],
        columns: &[Range<usize>],
    ) -> Self {
        let size = info.dtype.bitsize() / 8;
        let width = info.shape.get(1).copied().unwrap_or(1);
        let mut ordered = Vec::with_capacity(bytes.len());
        for row in rows {
            for columns in columns {
                let begin = (row * width + columns.start) * size;
                ordered.extend_from_slice(&bytes[begin..begin + columns.len() * size]);
            }
        }
        Self::whole(info, Cow::Owned(ordered))
    }

    /// F32, F16 or BF16.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The shape of the chain's tensor.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes (little-endian, row-major) in contiguous pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[self.range.clone()].chunks(self.stride).map(|chunk| &chunk[..self.row])
    }

    /// The bytes (little-endian, row-major). They are copied only if they are not contiguous.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.row == self.stride {
            return Cow::Borrowed(&self.bytes[self.range.clone()]);
        }
        let mut contiguous = Vec::with_capacity(self.byte_len());
        for piece in self.pieces() {
            contiguous.extend_from_slice(piece);
        }
        Cow::Owned(contiguous)
    }

    /// A copy as a tensor of candle on the CPU, of the same dtype.
    ///
    /// # Errors
    /// If candle cannot make the tensor.
    pub fn to_candle(&self) -> candle_core::Result<Tensor> {
        let dtype = match self.dtype {
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => DType::F32,
        };
        Tensor::from_raw_buffer(&self.bytes(), dtype, &self.shape, &Device::Cpu)
    }

    fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

impl View for TensorSlice<'_> {
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
