//! The size of the weights of a model.

use candle_core::DType;
use colm_checkpoint::{quantized_bytes, ChainCount, Checkpoint, ColmConfig, TensorId};

use crate::model::Packing;

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

/// The bytes of all weights of `checkpoint` as they are held on the CPU: in `dtype` or, if it is None, as stored, with
/// linear layers held as `packing` says.
pub fn held_bytes(
    config: &ColmConfig,
    checkpoint: &Checkpoint,
    dtype: Option<DType>,
    packing: Packing,
) -> usize {
    let bytes = config.tensors(checkpoint.chain_count()).map(|tensor| {
        let shape = tensor.shape();
        let stored = checkpoint.dtype(&tensor).bitsize() / 8;
        let floats =
            shape.iter().product::<usize>() * dtype.map_or(stored, |dtype| dtype.size_in_bytes());
        let quantized = || match packing {
            Packing::Quantized(wanted) => quantized_bytes(wanted, [shape[0], shape[1]]),
            Packing::AsLoaded | Packing::Unpacked => None,
        };
        match tensor.id {
            TensorId::Weight { .. } | TensorId::Head => {
                quantized().map_or(floats, |bytes| bytes as usize)
            }
            // The quantized head is a copy.
            TensorId::Embedding if config.file.tie_word_embeddings => {
                floats + quantized().map_or(0, |bytes| bytes as usize)
            }
            _ => floats,
        }
    });
    bytes.sum()
}
