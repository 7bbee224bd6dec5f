//! The size of the weights of a model.

use candle_core::DType;
use colm_checkpoint::{ChainCount, ColmConfig, TensorId};

/// The sizes of the weights in bytes.
pub struct WeightSizes {
    /// The size of each layer.
    pub layers: Vec<usize>,
    /// The size of the embedding, the final norm and the head together.
    pub outside_layers: usize,
}

/// The sizes of the weights of the first `k` chains in `dtype`. Quantized matrices have `1 / pack_factor` of that size.
pub fn weight_sizes(
    config: &ColmConfig,
    k: ChainCount,
    dtype: DType,
    pack_factor: usize,
) -> WeightSizes {
    let mut sizes =
        WeightSizes { layers: vec![0; config.file.num_hidden_layers], outside_layers: 0 };
    for tensor in config.tensors(k) {
        let elements: usize = tensor.shape().iter().product();
        match tensor.id {
            TensorId::Weight { layer, .. } => sizes.layers[layer] += elements / pack_factor,
            TensorId::InputNorm { layer }
            | TensorId::PostAttentionNorm { layer }
            | TensorId::QueryNorm { layer }
            | TensorId::KeyNorm { layer }
            | TensorId::Bias { layer, .. } => sizes.layers[layer] += elements,
            TensorId::Head => sizes.outside_layers += elements / pack_factor,
            TensorId::Embedding | TensorId::FinalNorm => sizes.outside_layers += elements,
        }
    }
    let bytes = dtype.size_in_bytes();
    sizes.layers.iter_mut().for_each(|layer| *layer *= bytes);
    sizes.outside_layers *= bytes;
    sizes
}
