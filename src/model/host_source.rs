//! Weights through the host's var builders: on a GPU, quantized in the host's formats, or to be quantized by it.

use candle_core::{Device, Result, Tensor};
use colm_checkpoint::{ChainTensor, TensorId};
use mistralrs_quant::{linear_b, QuantizedConfig, ShardedVarBuilder};

use super::host_linears::unquantized_weight;
use super::weight_source::{LoadedLinear, WeightSource};

/// The tensors of var builders by their names in the chain layout (docs/spec.md#chain-layout). Each function takes a
/// layer, or None for the parts outside the layers, and returns the root of the names on that layer's device.
pub struct HostSource<'a> {
    /// For weights that may be quantized while loading. May load to the CPU first, to be quantized on the way.
    pub linears: &'a dyn Fn(Option<usize>) -> ShardedVarBuilder,
    /// For weights that are never quantized, on the device that computes with them.
    pub full_precision: &'a dyn Fn(Option<usize>) -> ShardedVarBuilder,
    /// How the checkpoint is quantized, if it is.
    pub quantization: &'a Option<QuantizedConfig>,
}

impl WeightSource for HostSource<'_> {
    fn device(&self, layer: Option<usize>) -> Device {
        (self.full_precision)(layer).device().clone()
    }

    fn tensor(&self, tensor: &ChainTensor) -> Result<Tensor> {
        (self.full_precision)(layer_of(tensor.id)).get(tensor.shape(), &tensor.name())
    }

    fn linear(&self, weight: &ChainTensor, bias: Option<&ChainTensor>) -> Result<LoadedLinear> {
        let name = weight.name();
        let vb = (self.linears)(layer_of(weight.id)).pp(name.trim_end_matches(".weight"));
        let shape = weight.shape();
        let linear = linear_b(shape[1], shape[0], bias.is_some(), self.quantization, vb)?;
        Ok(match unquantized_weight(&linear)? {
            Some((weight, bias)) => LoadedLinear::Floats(weight, bias),
            None => LoadedLinear::Host(linear),
        })
    }
}

fn layer_of(id: TensorId) -> Option<usize> {
    match id {
        TensorId::InputNorm { layer }
        | TensorId::PostAttentionNorm { layer }
        | TensorId::QueryNorm { layer }
        | TensorId::KeyNorm { layer }
        | TensorId::Weight { layer, .. }
        | TensorId::Bias { layer, .. } => Some(layer),
        TensorId::Embedding | TensorId::FinalNorm | TensorId::Head => None,
    }
}
