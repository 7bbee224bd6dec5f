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
    let blocks = config.tensors(config.all_chains()).map(|tensor| {
        let source = if model.is_implied_zero(&tensor) {
            Block::Zeros(tensor.shape())
        } else {
            Block::Dense(tensor.clone())
        };
        (tensor.name(), source)
    });
    let (blocks, dtype, device) = (blocks.collect(), vb.dtype(), vb.device().clone());
    let backend = DenseSubmatrices { vb, blocks, last: Mutex::default() };
    ShardedSafeTensors::wrap(Box::new(backend), dtype, device)
}

/// Where a tensor of the chain layout comes from.
enum Block {
    /// A submatrix of a dense tensor.
    Dense(ChainTensor),
    /// It is in no file, and has this shape.
    Zeros(Vec<usize>),
}

struct DenseSubmatrices {
    vb: ShardedVarBuilder,
    blocks: HashMap<String, Block>,
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
        let block = match self.blocks.get(name) {
            Some(Block::Dense(block)) => block,
            Some(Block::Zeros(shape)) => return Tensor::zeros(shape.as_slice(), dtype, device),
            None => bail!("the model has no tensor `{name}`"),
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
        match self.blocks.get(name) {
            Some(Block::Dense(block)) => self.vb.contains_tensor(&block.id.dense_name()),
            Some(Block::Zeros(_)) => true,
            None => false,
        }
    }
}
