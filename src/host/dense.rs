//! Reads the dense layout as the chain layout (docs/spec.md#tensors).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{bail, DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::Init;
use colm_checkpoint::{ChainTensor, ModelConfig};
use mistralrs_quant::{ShardedSafeTensors, ShardedVarBuilder};

/// A var builder that returns submatrices of the dense tensors in `vb` for the names of the chain layout. The caller must
/// have checked that the submatrices above the diagonal are zero ([`colm_checkpoint::Checkpoint::check_zero_submatrices`]).
pub fn as_chain_layout(model: &ModelConfig, vb: ShardedVarBuilder) -> ShardedVarBuilder {
    let config = model.colm();
    let submatrices = config.tensors(config.all_chains()).map(|tensor| {
        let source = if model.is_implied_zero(&tensor) {
            Submatrix::Zeros(tensor.shape())
        } else {
            Submatrix::Dense(tensor.clone())
        };
        (tensor.name(), source)
    });
    let (submatrices, dtype, device) = (submatrices.collect(), vb.dtype(), vb.device().clone());
    let backend = DenseSubmatrices { vb, submatrices, last: Mutex::default() };
    ShardedSafeTensors::wrap(Box::new(backend), dtype, device)
}

/// Where a tensor of the chain layout comes from.
enum Submatrix {
    /// A submatrix of a dense tensor.
    Dense(ChainTensor),
    /// It is in no file, and has this shape.
    Zeros(Vec<usize>),
}

struct DenseSubmatrices {
    vb: ShardedVarBuilder,
    submatrices: HashMap<String, Submatrix>,
    /// The dense tensor read last. The submatrices of its other chains are read next.
    last: Mutex<Option<(String, Tensor)>>,
}

impl DenseSubmatrices {
    fn dense(&self, name: String, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, tensor)) = &*last {
            if *read == name && tensor.dtype() == dtype && tensor.device().same_device(device) {
                return Ok(tensor.clone());
            }
        }
        let tensor =
            self.vb.clone().set_device(device.clone()).set_dtype(dtype).get_unchecked(&name)?;
        *last = Some((name, tensor.clone()));
        Ok(tensor)
    }
}

impl SimpleBackend for DenseSubmatrices {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            bail!("`{name}` has shape {:?}, expected {shape:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = match self.submatrices.get(name) {
            Some(Submatrix::Dense(tensor)) => tensor,
            Some(Submatrix::Zeros(shape)) => return Tensor::zeros(shape.as_slice(), dtype, device),
            None => bail!("the model has no tensor `{name}`"),
        };
        let dense = self.dense(tensor.id.dense_name(), dtype, device)?;
        let rows = dense.narrow(0, tensor.rows.start, tensor.rows.len())?;
        let submatrix = match &tensor.columns {
            Some(columns) => rows.narrow(1, columns.start, columns.len())?,
            None => rows,
        };
        // Copy the submatrix, so that the dense tensor can be freed.
        submatrix.force_contiguous()
    }

    fn contains_tensor(&self, name: &str) -> bool {
        match self.submatrices.get(name) {
            Some(Submatrix::Dense(tensor)) => self.vb.contains_tensor(&tensor.id.dense_name()),
            Some(Submatrix::Zeros(_)) => true,
            None => false,
        }
    }
}
