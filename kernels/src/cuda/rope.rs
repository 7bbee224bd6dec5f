//! Rotary positions on a GPU.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, DeviceLocation, Result, Tensor};
use colm_cuda::RopeTable;

use super::{as_u32, remembered};

/// The table in the memory of every GPU that has asked for it.
#[derive(Debug, Default)]
pub(crate) struct TablesOnGpus(Mutex<Vec<(DeviceLocation, RopeTable)>>);

impl TablesOnGpus {
    /// The table on `device`, of `cos` and `sin`, `[positions, half]` each.
    pub(crate) fn get(
        &self,
        device: &Device,
        (cos, sin): (&[f32], &[f32]),
        half: usize,
    ) -> Result<RopeTable> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = tables.iter().find(|(at, _)| *at == device.location()) {
            return Ok(table.clone());
        }
        let tensor = |numbers| Tensor::from_slice(numbers, ((), half), device);
        let table = RopeTable { cos: tensor(cos)?, sin: tensor(sin)? };
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

/// `x` of `[rows, heads, head_dim]` turned by `positions`, all within the table.
pub(crate) fn turn(x: &Tensor, positions: &[usize], table: &RopeTable) -> Result<Tensor> {
    colm_cuda::rope(&x.contiguous()?, &on_device(positions, x.device())?, table)
}

/// Positions as the kernels take them.
pub(super) fn on_device(positions: &[usize], device: &Device) -> Result<Tensor> {
    let positions = as_u32(positions.iter().copied())?;
    let count = positions.len();
    remembered::counts(positions, &[count], device)
}
