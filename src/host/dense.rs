//! Reads the dense layout as the chain layout (docs/spec.md#tensors).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{bail, DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::Init;
use colm_checkpoint::{ChainTensor, ColmConfig};
use mistralrs_quant::{ShardedSafeTensors, ShardedVarBuilder};

/// A var builder that returns submatrices of the dense tensors in `vb` for the names of the chain layout. The caller must
/// have checked that the submatrices above the diagonal are zero ([`colm_checkpoint::Checkpoint::check_zero_submatrices`]).
pub fn as_chain_layout(config: &ColmConfig, vb: ShardedVarBuilder) -> ShardedVarBuilder {
    let tensors = config.tensors(config.all_chains());
    let blocks = tensors.map(|tensor| (tensor.name(), tensor)).collect();
    let (dtype, device) = (vb.dtype(), vb.device().clone());
    let backend = DenseSubmatrices { vb, blocks, last: Mutex::default() };
    ShardedSafeTensors::wrap(Box::new(backend), dtype, device)
}

struct DenseSubmatrices {
    vb: ShardedVarBuilder,
    blocks: HashMap<String, ChainTensor>,
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
        let block = self.get_unchecked(name, dtype, device)?;
        if block.shape() != &shape {
            bail!("`{name}` has shape {:?}, expected {shape:?}", block.shape());
        }
        Ok(block)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(block) = self.blocks.get(name) else {
            bail!("the model has no tensor `{name}`");
        };
        let dense = self.dense(block.id.dense_name(), dtype, device)?;
        let rows = dense.narrow(0, block.rows.start, block.rows.len())?;
        let block = match &block.columns {
            Some(columns) => rows.narrow(1, columns.start, columns.len())?,
            None => rows,
        };
        // Copy the submatrix, so that the dense tensor can be freed.
        block.force_contiguous()
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let block = self.blocks.get(name);
        block.is_some_and(|block| self.vb.contains_tensor(&block.id.dense_name()))
    }
}
