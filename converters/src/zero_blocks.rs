//! The blocks above the block diagonal of a dense matrix, which must be zero (SPEC 4).

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::tensor::TensorInfo;
use safetensors::Dtype;

use crate::config::ColmConfig;
use crate::names::Part;

/// A block that must be zero and is not: weights by which a chain would read a later one.
#[derive(Clone, Debug, PartialEq)]
pub struct NonzeroBlock {
    /// The tensor, by its dense name.
    pub part: Part,
    /// The chain (from 0) the rows belong to.
    pub output_chain: usize,
    /// The later chain (from 0) the columns belong to.
    pub input_chain: usize,
    /// Where the block stands in the matrix.
    pub rows: Range<usize>,
    /// Where the block stands in the matrix.
    pub columns: Range<usize>,
    /// How many of its values are not 0.
    pub count: usize,
    /// The largest absolute value; NaN if there is one.
    pub largest: f64,
}

impl fmt::Display for NonzeroBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tensor `{}`: chain {} would read chain {}: {} of {} values in rows {}..{}, columns {}..{} \
             are not 0 (largest magnitude {:e}); expected zeros above the block diagonal",
            self.part,
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

/// The blocks of the dense tensor `part` that must be zero and are not.
pub(crate) fn nonzero(
    config: &ColmConfig,
    part: Part,
    info: &TensorInfo,
    bytes: &[u8],
) -> Vec<NonzeroBlock> {
    let (Part::Weight { projection, .. }, &[_, width]) = (part, info.shape.as_slice()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (outputs, inputs) = (config.outputs(projection), config.inputs(projection));
    for output_chain in 0..outputs.count() {
        for input_chain in output_chain + 1..inputs.count() {
            let (rows, columns) = (outputs.range(output_chain), inputs.range(input_chain));
            // Air's k and v may stop after chain 1.
            if columns.start >= width {
                continue;
            }
            let matrix = Matrix { dtype: info.dtype, width, bytes };
            if !matrix.is_zero(&rows, &columns) {
                let (count, largest) = matrix.count_nonzero(&rows, &columns);
                found.push(NonzeroBlock {
                    part,
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

    /// Eight bytes at a time; the sign bits are left out, so that -0 is zero too.
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

    /// How many values are not 0, and the largest magnitude among them.
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
