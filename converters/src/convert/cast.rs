//! From one dtype to another.

use super::unchanged;
use crate::error::CheckpointError;
use crate::plan::Plan;
use crate::source::Source;
use crate::Dtype;

/// `source` in `dtype`: F32, F16 or BF16, rounded to nearest, ties to even. Writing fails if a
/// finite value is too large for `dtype`.
pub fn cast(source: &Source, dtype: Dtype) -> Result<Plan, CheckpointError> {
    let (mut config, unchanged) = (source.config().clone(), unchanged(source));
    // Transformers wrote `torch_dtype` before it wrote `dtype`.
    let fields = &mut config.file.other;
    let field = if fields.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    fields.insert(field.into(), name(dtype).into());
    Plan::new(&config, source.layout(), &source.dense_kv(), |tensor| {
        let (_, content) = unchanged(tensor)?;
        Ok((dtype, content))
    })
}

/// As config.json names it.
fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    }
}
