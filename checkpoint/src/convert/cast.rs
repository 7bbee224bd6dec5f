//! Conversion between dtypes.

use safetensors::Dtype;

use super::plan::{unchanged, ConversionPlan};
use crate::format::{torch_name, CheckpointError};
use crate::read::Source;

/// `source` with all tensors in `dtype` (F32, F16 or BF16), rounded to nearest, ties to even.
///
/// Writing the plan fails with [`CheckpointError::Overflow`] if a finite value is too large for `dtype`.
///
/// # Errors
/// If the config cannot be written as JSON.
pub fn cast(source: &Source, dtype: Dtype) -> Result<ConversionPlan, CheckpointError> {
    let (mut config, unchanged) = (source.config().clone(), unchanged(source));
    // transformers 5 writes `dtype`, earlier versions `torch_dtype`.
    let fields = &mut config.file.other;
    let field = if fields.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    fields.insert(field.into(), torch_name(dtype).into());
    ConversionPlan::new(&config, source.layout(), &source.dense_kv(), |tensor| {
        let (_, fill) = unchanged(tensor)?;
        Ok((dtype, fill))
    })
}
