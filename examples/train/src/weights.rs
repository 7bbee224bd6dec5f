//! A model's weights, block by block: random ones, and those of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use colm_checkpoint::{ColmConfig, Dtype, Part, Projection, Source};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::chain_model::Blocks;

/// The weights of all chains, in f32, and the config they belong to.
#[derive(Clone)]
pub struct Weights {
    /// The model's config.
    pub config: ColmConfig,
    /// Every tensor of the config, by its name in the chain layout.
    pub blocks: Blocks,
}

impl Weights {
    /// Random weights, the same for the same seed: normal with variance 1 / inputs for every block
    /// of rows, smaller where a projection adds to the residual stream; norms 1, biases 0.
    pub fn random(config: &ColmConfig, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut blocks = Blocks::new();
        for part in config.parts() {
            // The vocabulary's matrices are drawn row by row, across the chains.
            let rows = match part {
                Part::Embedding | Part::Head => {
                    let shape = (config.file.vocab_size, config.hidden.total());
                    Some(normal(&mut rng, shape, gain(config, part))?)
                }
                _ => None,
            };
            for chain in 0..config.chains.count() {
                let Some(tensor) = config.chain_tensor(part, chain) else {
                    continue;
                };
                let block = match (&rows, &tensor.columns) {
                    (Some(rows), Some(columns)) => {
                        rows.narrow(1, columns.start, columns.len())?.contiguous()?
                    }
                    (_, Some(columns)) => {
                        let deviation = gain(config, part) / (columns.len() as f64).sqrt();
                        normal(&mut rng, (tensor.rows.len(), columns.len()), deviation)?
                    }
                    (_, None) if matches!(part, Part::Bias { .. }) => {
                        Tensor::zeros(tensor.rows.len(), DType::F32, &Device::Cpu)?
                    }
                    (_, None) => Tensor::ones(tensor.rows.len(), DType::F32, &Device::Cpu)?,
                };
                blocks.insert(tensor.name(), block);
            }
        }
        Ok(Self { config: config.clone(), blocks })
    }

    /// Reads a checkpoint of CoLM, CoLM-Air or Llama in either layout, with the dtype it has there.
    pub fn read(dir: &Path) -> Result<(Self, DType)> {
        let read = || -> Result<(Self, DType)> {
            let source = Source::open(dir)?;
            source.check_zero_blocks()?;
            let mut stored = DType::F32;
            let mut blocks = Blocks::new();
            for tensor in source.config().tensors(source.config().all_chains()) {
                stored = match source.dtype(&tensor) {
                    Dtype::F16 => DType::F16,
                    Dtype::BF16 => DType::BF16,
                    _ => DType::F32,
                };
                let bytes = source.tensor(&tensor)?;
                let shape = tensor.shape();
                let block = Tensor::from_raw_buffer(&bytes.bytes(), stored, &shape, &Device::Cpu)?;
                blocks.insert(tensor.name(), block.to_dtype(DType::F32)?);
            }
            Ok((Self { config: source.config().clone(), blocks }, stored))
        };
        read().with_context(|| format!("reading the checkpoint {}", dir.display()))
    }

    /// The number of weights.
    pub fn count(&self) -> usize {
        self.blocks.values().map(Tensor::elem_count).sum()
    }

    /// A number that tells these weights from others: the 64-bit FNV-1a hash of names and bits.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        for (name, block) in self.blocks.iter().collect::<BTreeMap<_, _>>() {
            name.bytes().for_each(|byte| add(byte.into()));
            let values = block.flatten_all()?.to_vec1::<f32>()?;
            values.iter().for_each(|value| add(value.to_bits().into()));
        }
        Ok(hash)
    }
}

/// The standard deviation of a part, times the root of its inputs where it is a linear layer.
fn gain(config: &ColmConfig, part: Part) -> f64 {
    match part {
        Part::Embedding => 0.1,
        Part::Head => 0.5 / (config.hidden.total() as f64).sqrt(),
        Part::Weight { projection: Projection::O | Projection::Down, .. } => {
            (2. * config.file.num_hidden_layers as f64).sqrt().recip()
        }
        _ => 1.,
    }
}

/// Normal numbers by the Box-Muller transform. (candle's own CPU generator cannot be seeded.)
fn normal(rng: &mut ChaCha8Rng, shape: (usize, usize), deviation: f64) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.0 * shape.1)
        .map(|_| {
            let radius = (-2. * (1. - rng.random::<f64>()).ln()).sqrt();
            let angle = std::f64::consts::TAU * rng.random::<f64>();
            (deviation * radius * angle.cos()) as f32
        })
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
