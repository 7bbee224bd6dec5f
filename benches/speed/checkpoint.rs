//! Model folders with random weights.

use std::borrow::Cow;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::Result;
use colm_checkpoint::{
    write_chain_layout, write_dense_layout, CheckpointError, ColmConfig, Dtype, TensorId, View,
};
use colm_testing::random_model::{llama_config, range, write_tokenizer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::shape::Weights;

/// Writes a CoLM folder in the chain layout.
pub fn write_colm(dir: &Path, config: &Value, dtype: Weights) -> Result<()> {
    let parsed = ColmConfig::parse(&config.to_string())?;
    let table = table();
    write_chain_layout(dir, &parsed, |tensor| {
        let (part, name, shape) = (&tensor.id, tensor.name(), tensor.shape());
        Ok::<_, CheckpointError>(RandomTensor::new(part, &name, shape, dtype, &table))
    })?;
    write_tokenizer(dir, parsed.file.vocab_size);
    Ok(())
}

/// Writes a Llama folder. `config` is that of a CoLM of one chain, which is the same model.
pub fn write_llama(dir: &Path, config: &Value, dtype: Weights) -> Result<()> {
    let parsed = ColmConfig::parse(&config.to_string())?;
    let table = table();
    write_dense_layout(dir, &parsed, |part| {
        let (name, shape) = (part.dense_name(), parsed.dense_shapes(*part)[0].clone());
        Ok::<_, CheckpointError>(RandomTensor::new(part, &name, shape, dtype, &table))
    })?;
    write_tokenizer(dir, parsed.file.vocab_size);
    fs::write(dir.join("config.json"), llama_config(config.clone()).to_string())?;
    Ok(())
}

/// The number of random values, which all tensors repeat: generating a billion values would take longer than writing
/// them, and speed does not depend on the values. It is prime, so that no two rows of a matrix are equal.
const VALUES: usize = 1_000_003;

fn table() -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(0);
    (0..VALUES).map(|_| random.random_range(-1f32..1f32)).collect()
}

/// A tensor whose bytes are generated when it is written.
struct RandomTensor<'a> {
    shape: Vec<usize>,
    dtype: Weights,
    center: f32,
    half_width: f32,
    start: usize,
    table: &'a [f32],
}

impl<'a> RandomTensor<'a> {
    fn new(
        part: &TensorId,
        name: &str,
        shape: Vec<usize>,
        dtype: Weights,
        table: &'a [f32],
    ) -> Self {
        let (center, half_width) = range(part, &shape);
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let start = (hasher.finish() % VALUES as u64) as usize;
        Self { shape, dtype, center, half_width, start, table }
    }
}

impl View for RandomTensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            Weights::Bf16 => Dtype::BF16,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let count = self.shape.iter().product();
        let values = self.table.iter().cycle().skip(self.start).take(count);
        let values = values.map(|value| self.center + self.half_width * value);
        let mut bytes = Vec::with_capacity(self.data_len());
        match self.dtype {
            // bf16 is the upper half of an f32.
            Weights::Bf16 => values
                .for_each(|value| bytes.extend(((value.to_bits() >> 16) as u16).to_le_bytes())),
            _ => values.for_each(|value| bytes.extend(value.to_le_bytes())),
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * if self.dtype == Weights::Bf16 { 2 } else { 4 }
    }
}
