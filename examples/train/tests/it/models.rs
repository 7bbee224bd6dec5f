//! Small models of every architecture, and comparisons of tensors.

use candle_core::{DType, Device, Tensor};
use colm_checkpoint::{Architecture, ChainWidths, ColmConfig, ConfigFile};
use colm_testing::comparison::largest_magnitude;
use colm_train::weights::Weights;

pub const BOTH: [Architecture; 2] = [Architecture::Colm, Architecture::ColmAir];

/// Unequal chains; CoLM with biases in its attention, Air with tied embeddings.
pub fn config(architecture: Architecture, vocab_size: usize) -> ColmConfig {
    let file = ConfigFile {
        vocab_size,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 8,
        num_key_value_heads: Some(if architecture == Architecture::Colm { 4 } else { 2 }),
        head_dim: Some(8),
        max_position_embeddings: 256,
        tie_word_embeddings: architecture == Architecture::ColmAir,
        attention_bias: architecture == Architecture::Colm,
        ..ConfigFile::new(architecture, vec![2, 1, 1])
    };
    ColmConfig::new(file).unwrap()
}

/// Chains with shares that no ratio gives, and norms of heads.
pub fn with_widths_and_head_norms(architecture: Architecture, vocab_size: usize) -> ColmConfig {
    let widths = ChainWidths {
        hidden_size: Some(vec![10, 14, 8]),
        num_attention_heads: Some(vec![2, 4, 2]),
        num_key_value_heads: (architecture == Architecture::Colm).then(|| vec![1, 2, 1]),
        intermediate_size: None,
    };
    let file = config(architecture, vocab_size).file;
    ColmConfig::new(ConfigFile { chain_widths: Some(widths), qk_norm: true, ..file }).unwrap()
}

/// A CoLM of one chain.
pub fn llama(vocab_size: usize) -> ColmConfig {
    let file = ConfigFile { chains: vec![1], ..config(Architecture::Colm, vocab_size).file };
    ColmConfig::new(ConfigFile { attention_bias: false, ..file }).unwrap()
}

/// Random weights in which norms are not 1 and biases not 0.
pub fn weights(config: &ColmConfig, seed: u64) -> Weights {
    let mut weights = Weights::random(config, seed).unwrap();
    for (name, block) in &mut weights.blocks {
        if block.rank() == 1 {
            let salt = name.len() as f32;
            let waves = (0..block.elem_count()).map(|at| 0.3 * (salt + at as f32).sin());
            let waves = Tensor::from_iter(waves, &Device::Cpu).unwrap();
            *block = (&*block + waves.to_dtype(DType::F32).unwrap()).unwrap();
        }
    }
    weights
}

pub fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

pub fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).unwrap().flatten_all().unwrap();
    largest_magnitude(difference.to_vec1::<f32>().unwrap())
}
