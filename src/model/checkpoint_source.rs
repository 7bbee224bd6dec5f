//! Weights from the files of a checkpoint, on the CPU.

use candle_core::{bail, DType, Device, Error, Result, Tensor};
use colm_checkpoint::{ChainTensor, Checkpoint};

use super::weight_source::{LoadedLinear, WeightSource};

/// The weights of a checkpoint on the CPU. Every tensor is read from the mapped files when it is asked for; their pages
/// are released after that, so that they take no memory beside the model.
pub struct CheckpointSource<'a> {
    checkpoint: &'a Checkpoint,
    dtype: Option<DType>,
}

impl<'a> CheckpointSource<'a> {
    /// The tensors of `checkpoint`, in `dtype` or, if it is None, in the dtype they are stored in.
    pub fn new(checkpoint: &'a Checkpoint, dtype: Option<DType>) -> Self {
        Self { checkpoint, dtype }
    }
}

impl WeightSource for CheckpointSource<'_> {
    fn device(&self, _layer: Option<usize>) -> Device {
        Device::Cpu
    }

    fn tensor(&self, tensor: &ChainTensor) -> Result<Tensor> {
        if tensor.chain >= self.checkpoint.chain_count().get() {
            bail!(
                "chain {} of a checkpoint opened at {} chains",
                tensor.chain + 1,
                self.checkpoint.chain_count()
            );
        }
        let loaded = self.checkpoint.tensor(tensor).to_candle()?;
        self.checkpoint.release_pages().map_err(Error::wrap)?;
        match self.dtype {
            Some(dtype) => loaded.to_dtype(dtype),
            None => Ok(loaded),
        }
    }

    fn linear(&self, weight: &ChainTensor, bias: Option<&ChainTensor>) -> Result<LoadedLinear> {
        let bias = bias.map(|bias| self.tensor(bias)).transpose()?;
        Ok(LoadedLinear::Floats(self.tensor(weight)?, bias))
    }
}
