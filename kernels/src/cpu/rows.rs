//! Tensors as rows in host memory.

use std::sync::RwLockReadGuard;

use candle_core::{bail, CpuStorage, Layout, Result, Storage, Tensor};

use super::team::for_each_chunk;
use super::Element;

/// The rows (first dimension) of a tensor, each dense in itself; between two rows there may be a gap,
/// as in one part of a fused projection.
pub(crate) struct Rows<'a, T> {
    numbers: &'a [T],
    width: usize,
    stride: usize,
}

impl<'a, T: Element> Rows<'a, T> {
    /// The rows of a tensor that went through [`dense_rows`].
    pub(crate) fn new(storage: &'a Storage, layout: &Layout) -> Result<Self> {
        Ok(Self {
            numbers: &cpu(storage)?.as_slice::<T>()?[layout.start_offset()..],
            width: layout.dims()[1..].iter().product(),
            stride: layout.stride()[0],
        })
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.numbers[row * self.stride..][..self.width]
    }
}

/// The tensor itself if every row is dense, else a copy of which that is true.
pub(crate) fn dense_rows(x: &Tensor) -> Result<Tensor> {
    if x.dim(0)? > 0 && x.narrow(0, 0, 1)?.is_contiguous() {
        return Ok(x.clone());
    }
    x.contiguous()
}

/// [`dense_rows`] of several tensors.
pub(crate) fn all_dense(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    tensors.iter().map(dense_rows).collect()
}

/// A tensor's storage, held for reading, and where in it the tensor stands.
pub(crate) type Held<'a> = (RwLockReadGuard<'a, Storage>, &'a Layout);

/// Holds the storages of tensors that went through [`all_dense`].
pub(crate) fn hold(tensors: &[Tensor]) -> Vec<Held<'_>> {
    tensors.iter().map(Tensor::storage_and_layout).collect()
}

/// The rows of tensors that are held.
pub(crate) fn rows_of<'a, T: Element>(held: &'a [Held<'_>]) -> Result<Vec<Rows<'a, T>>> {
    held.iter().map(|(storage, layout)| Rows::new(storage, layout)).collect()
}

/// The one place that refuses tensors of another device.
pub(crate) fn cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("this tensor is on a GPU, and there are no CUDA kernels in this build"),
    }
}

/// Elementwise work below this much is not worth sharing.
const MIN_NUMBERS_PER_TASK: usize = 1 << 12;

/// Runs `fill` for every row of `out`, rows of `width` numbers, the last one perhaps shorter; `scratch` makes what it needs beside.
pub(crate) fn fill_rows<T: Send, S>(
    out: &mut [T],
    width: usize,
    scratch: impl Fn() -> S + Sync,
    fill: impl Fn(&mut S, usize, &mut [T]) + Sync,
) {
    let width = width.max(1);
    let rows = MIN_NUMBERS_PER_TASK.div_ceil(width);
    for_each_chunk(out, rows * width, |task, out| {
        let mut scratch = scratch();
        for (row, out) in out.chunks_mut(width).enumerate() {
            fill(&mut scratch, task * rows + row, out);
        }
    });
}
