//! How many bytes the weights of a model take.

use candle_core::DType;
use colm_checkpoint::{ChainCount, ColmConfig, Part};

/// Bytes of weights: per layer, and of the parts outside the layers.
pub struct WeightSizes {
    /// Per layer.
    pub layers: Vec<usize>,
    /// Of embedding, final norm and head.
    pub others: usize,
}

/// The sizes of the weights of the first `k` chains in `dtype`. Quantized matrices take `1 / pack_factor` of that.
pub fn weight_sizes(
    config: &ColmConfig,
    k: ChainCount,
    dtype: DType,
    pack_factor: usize,
) -> WeightSizes {
    let mut sizes = WeightSizes { layers: vec![0; config.file.num_hidden_layers], others: 0 };
    for tensor in config.tensors(k) {
        let elements: usize = tensor.shape().iter().product();
        match tensor.part {
            Part::Weight { layer, .. } => sizes.layers[layer] += elements / pack_factor,
            Part::InputNorm { layer }
            | Part::PostAttentionNorm { layer }
            | Part::Bias { layer, .. } => sizes.layers[layer] += elements,
            Part::Head => sizes.others += elements / pack_factor,
            Part::Embedding | Part::FinalNorm => sizes.others += elements,
        }
    }
    let bytes = dtype.size_in_bytes();
    sizes.layers.iter_mut().for_each(|layer| *layer *= bytes);
    sizes.others *= bytes;
    sizes
}
