//! Conversion between the two layouts.

use super::plan::ConversionPlan;
use crate::format::{CheckpointError, Layout, NonzeroSubmatrix, TensorId};
use crate::read::Source;

/// `source` in the chain layout: one file per chain.
///
/// Values of a dense source by which a chain would read a later one are left out; [`dropped_values`] says whether they
/// are zero, and if they are not, the plan needs [`ConversionPlan::with_other_weights`]. Which of Air's dense k and v have
/// the columns of chain 1 only is recorded in config.json, so that [`to_dense_layout`] restores the same tensors.
///
/// # Errors
/// If the config cannot be written as JSON.
pub fn to_chain_layout(source: &Source) -> Result<ConversionPlan, CheckpointError> {
    ConversionPlan::of_layout(source, Layout::Chains)
}

/// The nonzero values that [`to_chain_layout`] leaves out of one dense tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct DroppedValues {
    /// The tensor.
    pub id: TensorId,
    /// The number of values.
    pub count: usize,
    /// The largest magnitude.
    pub largest: f64,
}

/// Reads the weights of `source` and returns the nonzero values that [`to_chain_layout`] leaves out, per tensor.
///
/// # Errors
/// If the magnitude of a value exceeds `tolerance`; see [`CheckpointError::NotZero`].
pub fn dropped_values(
    source: &Source,
    tolerance: f64,
) -> Result<Vec<DroppedValues>, CheckpointError> {
    let mut dropped: Vec<DroppedValues> = Vec::new();
    for found in source.nonzero_submatrices() {
        let (file, submatrix) = found?;
        // `>` alone would accept NaN.
        if submatrix.largest.is_nan() || submatrix.largest > tolerance {
            let (file, submatrix) = (file.into(), Box::new(submatrix));
            return Err(CheckpointError::NotZero { file, submatrix });
        }
        match dropped.last_mut().filter(|last| last.id == submatrix.id) {
            Some(last) => {
                last.count += submatrix.count;
                last.largest = last.largest.max(submatrix.largest);
            }
            None => {
                let NonzeroSubmatrix { id, count, largest, .. } = submatrix;
                dropped.push(DroppedValues { id, count, largest });
            }
        }
    }
    Ok(dropped)
}

/// `source` in the dense layout: Llama's names and full matrices in one file, with zeros wherever a
/// chain would read a later one.
///
/// # Errors
/// If the chains of a tensor have different dtypes.
pub fn to_dense_layout(source: &Source) -> Result<ConversionPlan, CheckpointError> {
    ConversionPlan::of_layout(source, Layout::Dense)
}
