//! The submatrices of a dense matrix by which a chain would read a later one. They must be zero
//! (`docs/spec.md#dense-layout`).

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::tensor::TensorInfo;
use safetensors::Dtype;

use super::tensor_id::TensorId;
use crate::config::ColmConfig;

/// A submatrix of a dense matrix that must be zero and is not.
#[derive(Clone, Debug, PartialEq)]
pub struct NonzeroSubmatrix {
    /// The dense tensor.
    pub id: TensorId,
    /// The chain (from 0) that owns the rows.
    pub output_chain: usize,
    /// The later chain (from 0) that owns the columns.
    pub input_chain: usize,
    /// The rows of the submatrix in the dense matrix.
    pub rows: Range<usize>,
    /// The columns of the submatrix in the dense matrix.
    pub columns: Range<usize>,
    /// How many values are not 0.
    pub count: usize,
    /// The largest absolute value; NaN if a value is NaN.
    pub largest: f64,
}

impl fmt::Display for NonzeroSubmatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tensor `{}`: chain {} would read chain {}: {} of {} values in rows {}..{}, columns {}..{} \
             are not 0 (largest magnitude {:e}); expected zeros above the diagonal of chains",
            self.id,
            self.output_chain + 1,
            self.input_chain + 1,
            self.count,
            self.rows.len() * self.columns.len(),
            self.rows.start,
            self.rows.end,
            self.columns.start,
            self.columns.end,
            self.largest,
        )
    }
}

/// The submatrices of the dense tensor `id` that must be zero and are not. `bytes` are its values, row by row.
pub(crate) fn find_nonzero(
    config: &ColmConfig,
    id: TensorId,
    info: &TensorInfo,
    bytes: &[u8],
) -> Vec<NonzeroSubmatrix> {
    let (TensorId::Weight { projection, .. }, &[_, width]) = (id, info.shape.as_slice()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (outputs, inputs) = (config.outputs(projection), config.inputs(projection));
    for output_chain in 0..outputs.count() {
        for input_chain in output_chain + 1..inputs.count() {
            let (rows, columns) = (outputs.range(output_chain), inputs.range(input_chain));
            // Air's k and v may stop after the columns of chain 1.
            if columns.start >= width {
                continue;
            }
            let matrix = Matrix { dtype: info.dtype, width, bytes };
            if !matrix.is_zero(&rows, &columns) {
                let (count, largest) = matrix.count_nonzero(&rows, &columns);
                found.push(NonzeroSubmatrix {
                    id,
                    output_chain,
                    input_chain,
                    rows,
                    columns,
                    count,
                    largest,
                });
            }
        }
    }
    found
}

struct Matrix<'a> {
    dtype: Dtype,
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    fn size(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    fn rows(&self, rows: &Range<usize>, columns: &Range<usize>) -> impl Iterator<Item = &'a [u8]> {
        let (bytes, width, size) = (self.bytes, self.width, self.size());
        let columns = columns.clone();
        rows.clone().map(move |row| {
            let start = row * width;
            &bytes[(start + columns.start) * size..(start + columns.end) * size]
        })
    }

    /// Whether all values are 0 or -0. Sign bits are masked; eight bytes are compared at a time.
    fn is_zero(&self, rows: &Range<usize>, columns: &Range<usize>) -> bool {
        let magnitudes = match self.size() {
            4 => u64::from_le_bytes([0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]),
            _ => u64::from_le_bytes([0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f]),
        };
        self.rows(rows, columns).all(|row| {
            let (words, rest) = row.as_chunks();
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            let bits = words
                .iter()
                .fold(u64::from_le_bytes(last), |bits, word| bits | u64::from_le_bytes(*word));
            bits & magnitudes == 0
        })
    }

    /// The number of values that are not 0, and the largest magnitude.
    fn count_nonzero(&self, rows: &Range<usize>, columns: &Range<usize>) -> (usize, f64) {
        let values = self.rows(rows, columns).flat_map(|row| row.chunks_exact(self.size()));
        let mut count = 0;
        let mut largest = 0f64;
        for value in values.map(|bytes| magnitude(self.dtype, bytes)) {
            count += usize::from(value != 0.);
            if !largest.is_nan() && (value.is_nan() || value > largest) {
                largest = value;
            }
        }
        (count, largest)
    }
}

fn magnitude(dtype: Dtype, bytes: &[u8]) -> f64 {
    match (dtype, bytes) {
        (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64().abs(),
        (Dtype::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64().abs(),
        (_, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])).abs(),
        _ => f64::NAN,
    }
}
