//! Tensors with strides.

use std::ops::Range;

use safetensors::Dtype;

/// The position of a tensor in a file, with its strides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strided {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Elements from one index to the next, per dimension.
    pub stride: Vec<usize>,
    /// Its bytes in the file, from its first element to its last.
    pub bytes: Range<usize>,
}

impl Strided {
    /// Whether the elements are in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        self.shape.iter().zip(&self.stride).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected = expected.saturating_mul(size);
            fits
        })
    }

    /// The elements in row-major order. `bytes` are the bytes of the file at [`Self::bytes`].
    pub fn to_contiguous(&self, bytes: &[u8]) -> Vec<u8> {
        let size = self.dtype.bitsize() / 8;
        let elements = self.shape.iter().product::<usize>();
        let mut contiguous = Vec::with_capacity(elements * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..elements {
            let at: usize = index.iter().zip(&self.stride).map(|(i, stride)| i * stride).sum();
            contiguous.extend_from_slice(&bytes[at * size..(at + 1) * size]);
            advance(&mut index, &self.shape);
        }
        contiguous
    }
}

/// Moves `index` to the next element of `shape`, the last dimension fastest.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (i, &size) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < size {
            return;
        }
        *i = 0;
    }
}
