//! Small configs and checkpoints, whose values encode their positions.

use std::borrow::Cow;
use std::path::Path;

use colm_checkpoint::{
    write_chain_layout, write_dense_layout, ChainTensor, CheckpointError, ColmConfig, Dtype,
    TensorId, View,
};
use serde_json::{json, Value};

/// A valid config.json: CoLM, chains 2:1:1.
pub fn config_json() -> Value {
    json!({
        "architectures": ["CoLMForCausalLM"],
        "model_type": "colm",
        "chains": [2, 1, 1],
        "vocab_size": 11,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "torch_dtype": "float32"
    })
}

/// The same as CoLM-Air, with two shared key/value heads.
pub fn air_json() -> Value {
    with(config_json(), |json| {
        json["architectures"] = json!(["CoLMAirForCausalLM"]);
        json["model_type"] = json!("colm_air");
        json["num_key_value_heads"] = json!(2);
    })
}

pub use crate::random_model::with;

/// The config of this JSON, which must be valid.
pub fn parse(json: Value) -> ColmConfig {
    ColmConfig::parse(&json.to_string()).unwrap()
}

/// Asserts the error of `base` with `field` set to `value`: it names `field` and everything in `named`.
pub fn assert_error(base: Value, field: &str, value: Value, named: &[&str]) {
    let json = with(base, |json| json[field] = value);
    let error = ColmConfig::parse(&json.to_string()).unwrap_err().to_string();
    for word in named.iter().chain([&field]) {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The dtype of the values.
    pub dtype: Dtype,
    /// The dimensions.
    pub shape: Vec<usize>,
    /// The values, little-endian, row by row.
    pub bytes: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
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

/// `value(row, column)` everywhere; a vector has one column.
pub fn fill(dtype: Dtype, shape: &[usize], value: impl Fn(usize, usize) -> f32) -> Tensor {
    let columns = shape.get(1).copied().unwrap_or(1);
    let mut bytes = Vec::new();
    for row in 0..shape[0] {
        for column in 0..columns {
            let value = value(row, column);
            match dtype {
                Dtype::F32 => bytes.extend(value.to_le_bytes()),
                Dtype::F16 => bytes.extend(half::f16::from_f32(value).to_le_bytes()),
                Dtype::BF16 => bytes.extend(half::bf16::from_f32(value).to_le_bytes()),
                Dtype::F64 => bytes.extend(f64::from(value).to_le_bytes()),
                other => panic!("no {other} here"),
            }
        }
    }
    Tensor { dtype, shape: shape.to_vec(), bytes }
}

/// A value that encodes a position in the dense tensor; never 0.
pub fn place(row: usize, column: usize) -> f32 {
    (1 + row * 32 + column) as f32
}

/// The tensor of the chain layout whose values encode their positions in the dense tensor.
pub fn chain_tensor(dtype: Dtype, tensor: &ChainTensor) -> Tensor {
    let first_column = tensor.columns.as_ref().map_or(0, |columns| columns.start);
    fill(dtype, &tensor.shape(), |row, column| {
        place(tensor.rows.start + row, first_column + column)
    })
}

/// The dense tensor of the same values, 0 where no chain owns a value.
pub fn dense_tensor(dtype: Dtype, config: &ColmConfig, id: TensorId, shape: &[usize]) -> Tensor {
    let owned: Vec<ChainTensor> =
        (0..config.chains.count()).filter_map(|chain| config.chain_tensor(id, chain)).collect();
    fill(dtype, shape, |row, column| {
        let owner = owned.iter().find(|tensor| {
            let columns = tensor.columns.clone().unwrap_or(0..1);
            tensor.rows.contains(&row) && columns.contains(&column)
        });
        owner.map_or(0., |_| place(row, column))
    })
}

/// Writes a checkpoint in the chain layout.
pub fn write_chains(dir: &Path, config: &ColmConfig, dtype: Dtype) {
    write_chain_layout(dir, config, |tensor| Ok::<_, CheckpointError>(chain_tensor(dtype, tensor)))
        .unwrap();
}

/// Writes the same checkpoint in the dense layout.
pub fn write_dense(dir: &Path, config: &ColmConfig, dtype: Dtype) {
    write_dense_layout(dir, config, |&id| {
        Ok::<_, CheckpointError>(dense_tensor(dtype, config, id, &config.dense_shapes(id)[0]))
    })
    .unwrap();
}
