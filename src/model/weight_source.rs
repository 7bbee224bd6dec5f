//! Where the weights of the model are loaded from, and how its linear layers are held.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor};
use colm_checkpoint::{quantized_type, ChainTensor, ColmConfig, Projection, TensorId};
use colm_kernels::MatmulPrecision;
use mistralrs_quant::QuantMethod;

use super::linear::ChainLinear;
use super::norm::ChainRmsNorm;

/// Loads the tensors of a model, chain by chain.
pub trait WeightSource {
    /// The device that computes `layer`, or, for None, what is outside the layers.
    fn device(&self, layer: Option<usize>) -> Device;

    /// The weights of an embedding or a norm.
    ///
    /// # Errors
    /// If the tensor is missing or has another shape.
    fn tensor(&self, tensor: &ChainTensor) -> Result<Tensor>;

    /// The weights of a linear layer of one chain.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    fn linear(&self, weight: &ChainTensor, bias: Option<&ChainTensor>) -> Result<LoadedLinear>;
}

/// W_i and b_i of a linear layer, as a [`WeightSource`] loads them.
pub enum LoadedLinear {
    /// `[out_i, in_<=i]` and `[out_i]` in the dtype they are held in.
    Floats(Tensor, Option<Tensor>),
    /// Quantized by the host, or going to be.
    Host(Arc<dyn QuantMethod>),
}

/// How linear layers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Packed for the kernels: floats in the dtype they are loaded in, and weights that the host quantizes while it loads
    /// them, if the kernels support the type.
    AsLoaded,
    /// Quantized to this type and packed. A matrix whose width does not suit the type gets
    /// [another](colm_checkpoint::quantized_type).
    Quantized(GgmlDType),
    /// Not packed, because the host quantizes them after they are loaded.
    Unpacked,
}

impl Packing {
    /// The type that a matrix of `inputs` columns is quantized to; None: it stays as it is loaded.
    pub fn quantized_type(self, inputs: usize) -> Option<GgmlDType> {
        match self {
            Self::Quantized(wanted) => quantized_type(wanted, inputs),
            Self::AsLoaded | Self::Unpacked => None,
        }
    }
}

/// What a model is loaded with.
pub struct LoadOptions {
    /// The longest sequence, in tokens.
    pub max_tokens: usize,
    /// The dtype of the KV cache.
    pub kv_dtype: DType,
    /// How linear layers are held.
    pub packing: Packing,
    /// How exactly packed ones multiply activations.
    pub matmul_precision: MatmulPrecision,
}

/// A source of weights for the first k chains of a model.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The config of the model.
    pub config: &'a ColmConfig,
    /// k.
    pub k: usize,
    /// Where they come from.
    pub source: &'a dyn WeightSource,
    /// How linear layers are held.
    pub packing: Packing,
    /// How exactly packed ones multiply activations.
    pub precision: MatmulPrecision,
}

impl Weights<'_> {
    /// The share of every chain in tensor `id`, chain 1 first, of chains that have one.
    pub fn tensors(&self, id: TensorId) -> Result<Vec<Tensor>> {
        self.shares(id).map(|share| self.source.tensor(&share)).collect()
    }

    /// The weights of a linear layer of every chain that has one, chain 1 first.
    pub fn linears(&self, id: TensorId) -> Result<Vec<LoadedLinear>> {
        let linear = |weight: ChainTensor| {
            let bias = match id {
                TensorId::Weight { layer, projection } if self.config.has_bias(projection) => {
                    let id = TensorId::Bias { layer, projection };
                    self.config.chain_tensor(id, weight.chain)
                }
                _ => None,
            };
            self.source.linear(&weight, bias.as_ref())
        };
        self.shares(id).map(linear).collect()
    }

    /// A projection of a decoder layer.
    pub fn projection(&self, layer: usize, projection: Projection) -> Result<ChainLinear> {
        let linears = self.linears(TensorId::Weight { layer, projection })?;
        ChainLinear::new(linears, self.packing, self.precision)
    }

    /// A norm.
    pub fn norm(&self, id: TensorId) -> Result<ChainRmsNorm> {
        ChainRmsNorm::new(self.tensors(id)?, self.config.file.rms_norm_eps)
    }

    /// A norm of heads; None if the model has none (`qk_norm`).
    pub fn head_norm(&self, id: TensorId) -> Result<Option<ChainRmsNorm>> {
        self.config.file.qk_norm.then(|| self.norm(id)).transpose()
    }

    fn shares(&self, id: TensorId) -> impl Iterator<Item = ChainTensor> + '_ {
        (0..self.k).filter_map(move |chain| self.config.chain_tensor(id, chain))
    }
}
