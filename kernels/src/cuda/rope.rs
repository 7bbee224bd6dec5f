//! RoPE on a GPU.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};
use colm_cuda::RopeTable;

use super::{as_u32, upload_cache};

/// Copies of the table of cosines and sines, one per device that uses it.
#[derive(Debug, Default)]
pub(crate) struct GpuRopeTables(Mutex<Vec<(Device, RopeTable)>>);

impl GpuRopeTables {
    /// The table on `device`, made from `cos` and `sin` `[positions, half]` on first use.
    pub(crate) fn get(
        &self,
        device: &Device,
        (cos, sin): (&[f32], &[f32]),
        half: usize,
    ) -> Result<RopeTable> {
        // A poisoned lock is safe to reuse: an entry is added in one step.
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = tables.iter().find(|(at, _)| at.same_device(device)) {
            return Ok(table.clone());
        }
        let tensor = |numbers| Tensor::from_slice(numbers, ((), half), device);
        let table = RopeTable { cos: tensor(cos)?, sin: tensor(sin)? };
        tables.push((device.clone(), table.clone()));
        Ok(table)
    }
}

impl Clone for GpuRopeTables {
    /// An empty set: the clone makes its own copies.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// [`crate::Rope::apply`], with checked arguments.
pub(crate) fn rope(x: &Tensor, positions: &[usize], table: &RopeTable) -> Result<Tensor> {
    colm_cuda::rope(&x.contiguous()?, &upload_positions(positions, x.device())?, table)
}

/// `positions` as a u32 tensor on `device`.
pub(super) fn upload_positions(positions: &[usize], device: &Device) -> Result<Tensor> {
    let positions = as_u32(positions.iter().copied())?;
    let count = positions.len();
    upload_cache::indices(positions, &[count], device)
}
