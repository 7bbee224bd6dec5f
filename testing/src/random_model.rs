//! Model folders with random weights of any shape.

use std::borrow::Cow;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use colm_checkpoint::{
    write_chain_layout, ChainTensor, CheckpointError, ColmConfig, Dtype, TensorId, View,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};
use tempfile::TempDir;

use crate::folders::golden;

/// The vocabulary size of the tokenizer that random models share.
pub const VOCAB: usize = 61;

/// `count` token ids of that vocabulary, from 1 on; id 0 ends a sequence.
pub fn token_ids(count: usize) -> Vec<u32> {
    (0..count).map(|at| (1 + at * 11 % (VOCAB - 1)) as u32).collect()
}

/// A CoLM-Air of four equal chains.
pub fn air() -> Value {
    json!({
        "architectures": ["CoLMAirForCausalLM"],
        "model_type": "colm_air",
        "chains": [1, 1, 1, 1],
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "eos_token_id": 0,
        "torch_dtype": "float32"
    })
}

/// A plain CoLM of the same size.
pub fn colm() -> Value {
    with(air(), |json| {
        json["architectures"] = json!(["CoLMForCausalLM"]);
        json["model_type"] = json!("colm");
        json["num_key_value_heads"] = json!(4);
    })
}

/// The config of a CoLM of one chain as that of the Llama it is.
pub fn llama_config(config: Value) -> Value {
    with(config, |json| {
        json["architectures"] = json!(["LlamaForCausalLM"]);
        json["model_type"] = json!("llama");
        json["hidden_act"] = json!("silu");
        json["rope_theta"] = json!(10_000.0);
        json.as_object_mut().unwrap().remove("chains");
    })
}

/// `json` after `change`.
pub fn with(mut json: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut json);
    json
}

/// A temporary folder with the model in `model/`, in the chain layout.
pub fn folder(config: &Value) -> TempDir {
    let parent = tempfile::tempdir().unwrap();
    write(&parent.path().join("model"), config, |_| 0);
    parent
}

/// Writes the model to `dir`. A tensor's values depend on its name, its shape and its seed only.
pub fn write(dir: &Path, config: &Value, seed: impl Fn(&ChainTensor) -> u64) {
    let config = ColmConfig::parse(&config.to_string()).unwrap();
    write_chain_layout(dir, &config, |tensor| {
        Ok::<_, CheckpointError>(RandomTensor::new(tensor, seed(tensor)))
    })
    .unwrap();
    write_tokenizer(dir, config.file.vocab_size);
}

/// Writes the tokenizer of the golden cases, with words added up to `vocab_size`.
pub fn write_tokenizer(dir: &Path, vocab_size: usize) {
    fs::copy(golden().join("tokenizer_config.json"), dir.join("tokenizer_config.json")).unwrap();
    let json = fs::read_to_string(golden().join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&json).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    for id in vocab.len()..vocab_size {
        vocab.insert(format!("w{id}"), id.into());
    }
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// Center and half the width of the uniform distribution that a tensor's values are drawn from. Activations stay near
/// unit scale, and the largest logit is clearly the largest.
pub fn range(part: &TensorId, shape: &[usize]) -> (f32, f32) {
    let inputs = shape.last().copied().unwrap_or(1) as f32;
    match part {
        norm if norm.is_norm() => (1., 0.1),
        TensorId::Embedding => (0., 1.7),
        TensorId::Head => (0., 3. / inputs.sqrt()),
        TensorId::Weight { .. } => (0., 1.7 / inputs.sqrt()),
        _ => (0., 0.5),
    }
}

struct RandomTensor {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl RandomTensor {
    fn new(tensor: &ChainTensor, seed: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (tensor.name(), tensor.shape(), seed).hash(&mut hasher);
        let mut random = StdRng::seed_from_u64(hasher.finish());
        let shape = tensor.shape();
        let (center, half_width) = range(&tensor.id, &shape);
        // Rounded to bf16, so that a test can load the model in bf16 without further rounding.
        let value = |_| {
            let value = center + half_width * random.random_range(-1f32..1f32);
            f32::from_bits(value.to_bits() & 0xffff_0000)
        };
        let values = (0..shape.iter().product()).map(value);
        Self { bytes: values.flat_map(f32::to_le_bytes).collect(), shape }
    }
}

impl View for RandomTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
