//! Tensors in CPU memory as rows.

use std::sync::RwLockReadGuard;

use candle_core::{bail, CpuStorage, Layout, Result, Storage, Tensor};

use super::thread_pool::for_each_chunk;
use super::Element;

/// The rows (first dimension) of a tensor. Each row is contiguous, but rows may be strided, as in a slice of a fused
/// projection.
pub(crate) struct TensorRows<'a, T> {
    data: &'a [T],
    width: usize,
    stride: usize,
}

impl<'a, T: Element> TensorRows<'a, T> {
    /// The rows of a tensor returned by [`contiguous_rows`].
    pub(crate) fn new(storage: &'a Storage, layout: &Layout) -> Result<Self> {
        Ok(Self {
            data: &cpu_storage(storage)?.as_slice::<T>()?[layout.start_offset()..],
            width: layout.dims()[1..].iter().product(),
            stride: layout.stride()[0],
        })
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..][..self.width]
    }
}

/// The tensor itself if every row is contiguous, else a contiguous copy.
pub(crate) fn contiguous_rows(x: &Tensor) -> Result<Tensor> {
    if x.dim(0)? > 0 && x.narrow(0, 0, 1)?.is_contiguous() {
        return Ok(x.clone());
    }
    x.contiguous()
}

/// [`contiguous_rows`] of several tensors.
pub(crate) fn all_contiguous_rows(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    tensors.iter().map(contiguous_rows).collect()
}

/// A read lock on a tensor's storage, and the tensor's layout in it.
pub(crate) type StorageGuard<'a> = (RwLockReadGuard<'a, Storage>, &'a Layout);

/// Locks the storages of tensors returned by [`all_contiguous_rows`] for reading.
pub(crate) fn read_storages(tensors: &[Tensor]) -> Vec<StorageGuard<'_>> {
    tensors.iter().map(Tensor::storage_and_layout).collect()
}

/// The rows of locked tensors.
pub(crate) fn rows_of<'a, T: Element>(
    guards: &'a [StorageGuard<'_>],
) -> Result<Vec<TensorRows<'a, T>>> {
    guards.iter().map(|(storage, layout)| TensorRows::new(storage, layout)).collect()
}

/// The CPU storage of a tensor. Fails for tensors on any other device.
pub(crate) fn cpu_storage(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("this tensor is on a GPU, and there are no CUDA kernels in this build"),
    }
}

/// Elementwise tasks of fewer numbers are not worth another thread.
pub(crate) const MIN_NUMBERS_PER_TASK: usize = 1 << 12;

/// Runs `fill(scratch, row, out)` for every row of `out` on the thread pool. Rows have `width` numbers; the last may be
/// shorter. `scratch` creates one buffer per task.
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
