//! RoPE.

use candle_core::{bail, DType, Result, Tensor};

use crate::ffi::kv_write::colm_rope;
use crate::memory::{address, check_row_numbers, code_of, empty, int, launched, stream};

/// The cosines and sines of RoPE, f32 `[max_positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// The cosines.
    pub cos: Tensor,
    /// The sines.
    pub sin: Tensor,
}

impl RopeTable {
    pub(crate) fn check(&self, head_dim: usize) -> Result<()> {
        for table in [&self.cos, &self.sin] {
            let fits = matches!(table.dims(), [_, half] if 2 * half == head_dim);
            if !fits || table.dtype() != DType::F32 {
                bail!(
                    "a rotary table must be f32 [positions, {}], not {:?} {:?}",
                    head_dim / 2,
                    table.dtype(),
                    table.dims()
                );
            }
        }
        Ok(())
    }
}

/// Applies RoPE to `x` `[rows, heads, head_dim]`, row r at `positions[r]`. `positions` is u32 `[rows]` and not checked:
/// it must be within the table.
///
/// # Errors
/// If a shape or dtype does not fit.
pub fn rope(x: &Tensor, positions: &Tensor, table: &RopeTable) -> Result<Tensor> {
    let (rows, heads, head_dim) = x.dims3()?;
    table.check(head_dim)?;
    check_row_numbers("positions", positions, rows, DType::U32)?;
    let device = x.device();
    let out = empty(x.dims(), x.dtype(), device)?;
    let stride = (heads * head_dim) as i64;
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, which are freed on the stream
    // of the work. The caller keeps the positions within the table.
    let status = unsafe {
        colm_rope(
            code_of(x.dtype())?,
            int(head_dim)?,
            address(x, device)?,
            stride,
            address(&out, device)?,
            stride,
            int(rows)?,
            int(heads)?,
            address(&table.cos, device)?.cast(),
            address(&table.sin, device)?.cast(),
            address(positions, device)?.cast(),
            stream(device)?,
        )
    };
    launched("rope", status)?;
    Ok(out)
}
