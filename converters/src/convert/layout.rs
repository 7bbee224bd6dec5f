//! From one layout of SPEC 4 to the other.

use super::unchanged;
use crate::error::CheckpointError;
use crate::layout::Layout;
use crate::names::Part;
use crate::plan::Plan;
use crate::source::Source;
use crate::zero_blocks::NonzeroBlock;

/// The chain layout of `source`: a file per chain. What a dense source holds above the block
/// diagonal is left out; [`dropped`] says whether that is nothing but zeros.
///
/// Which dense k and v of an Air model had the columns of the first chain alone
/// is kept in the new config.json, so that [`unpack`] gives back the same tensors.
pub fn pack(source: &Source) -> Result<Plan, CheckpointError> {
    Plan::new(source.config(), Layout::Chains, &source.dense_kv(), unchanged(source))
}

/// What [`pack`] leaves out of one dense tensor: values above the block diagonal that are not 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// The tensor.
    pub part: Part,
    /// How many values.
    pub count: usize,
    /// The largest magnitude.
    pub largest: f64,
}

/// Reads the weights of `source` and says of each tensor what [`pack`] leaves out. A value of a
/// magnitude above `tolerance` is an error.
pub fn dropped(source: &Source, tolerance: f64) -> Result<Vec<Dropped>, CheckpointError> {
    let mut dropped: Vec<Dropped> = Vec::new();
    for found in source.nonzero_blocks() {
        let (file, block) = found?;
        // NaN is within no tolerance.
        if block.largest.is_nan() || block.largest > tolerance {
            return Err(CheckpointError::NotZero { file: file.into(), block: Box::new(block) });
        }
        match dropped.last_mut().filter(|last| last.part == block.part) {
            Some(last) => {
                last.count += block.count;
                last.largest = last.largest.max(block.largest);
            }
            None => {
                let NonzeroBlock { part, count, largest, .. } = block;
                dropped.push(Dropped { part, count, largest });
            }
        }
    }
    Ok(dropped)
}

/// The dense layout of `source`: Llama's names and full matrices in one file, zeros above the
/// block diagonal. Fails if the chains of one tensor have different dtypes.
pub fn unpack(source: &Source) -> Result<Plan, CheckpointError> {
    Plan::new(source.config(), Layout::Dense, &source.dense_kv(), unchanged(source))
}
