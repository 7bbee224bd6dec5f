//! Rotary positions on a GPU.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, DeviceLocation, Result, Tensor};
use colm_cuda::RopeTable;

use super::{as_u32, remembered};

/// The table in the memory of every GPU that has asked for it.
#[derive(Debug, Default)]
pub(crate) struct TablesOnGpus(Mutex<Vec<(DeviceLocation, RopeTable)>>);

impl TablesOnGpus {
    fn get(&self, device: &Device, make: impl FnOnce() -> Result<RopeTable>) -> Result<RopeTable> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = tables.iter().find(|(at, _)| *at == device.location()) {
            return Ok(table.clone());
        }
        let table = make()?;
        tables.push((device.location(), table.clone()));
        Ok(table)
    }
}

impl Clone for TablesOnGpus {
    /// A clone asks anew.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// `x` of `[rows, heads, head_dim]` turned by `positions`, all within the table of `cos` and `sin`, `[positions,
/// head_dim / 2]` each.
pub(crate) fn turn(
    x: &Tensor,
    positions: &[usize],
    (cos, sin): (&[f32], &[f32]),
    tables: &TablesOnGpus,
) -> Result<Tensor> {
    let device = x.device();
    let table = tables.get(device, || {
        let half = x.dim(2)? / 2;
        let tensor = |numbers| Tensor::from_slice(numbers, ((), half), device);
        Ok(RopeTable { cos: tensor(cos)?, sin: tensor(sin)? })
    })?;
    let positions = as_u32(positions.iter().copied())?;
    let count = positions.len();
    let positions = remembered::counts(positions, &[count], device)?;
    colm_cuda::rope(&x.contiguous()?, &positions, &table)
}
