//! The weights of a model by block: random initialization, and reading checkpoints.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use colm_checkpoint::convert::box_muller;
use colm_checkpoint::{ColmConfig, Projection, Source, TensorId};
use fnv::FnvHasher;
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::chain_model::Blocks;

/// The dtypes that the tensors of a checkpoint are stored in, by name in the chain layout.
pub type StoredDtypes = BTreeMap<String, DType>;

/// The weights of all chains in f32, and the config.
#[derive(Clone)]
pub struct Weights {
    /// The model's config.
    pub config: ColmConfig,
    /// All tensors of the config by name in the chain layout.
    pub blocks: Blocks,
}

impl Weights {
    /// Random weights, determined by the seed: normal with variance 1 / inputs for every block, less for projections
    /// that add to the residual stream; norms 1, biases 0.
    pub fn random(config: &ColmConfig, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut blocks = Blocks::new();
        for id in config.tensor_ids() {
            // Embedding and head are drawn row by row over all chains.
            let rows = match id {
                TensorId::Embedding | TensorId::Head => {
                    let shape = (config.file.vocab_size, config.hidden.total());
                    Some(normal(&mut rng, shape, gain(config, id))?)
                }
                _ => None,
            };
            for chain in 0..config.chains.count() {
                let Some(tensor) = config.chain_tensor(id, chain) else {
                    continue;
                };
                let block = match (&rows, &tensor.columns) {
                    (Some(rows), Some(columns)) => {
                        rows.narrow(1, columns.start, columns.len())?.contiguous()?
                    }
                    (_, Some(columns)) => {
                        let deviation = gain(config, id) / (columns.len() as f64).sqrt();
                        normal(&mut rng, (tensor.rows.len(), columns.len()), deviation)?
                    }
                    (_, None) if matches!(id, TensorId::Bias { .. }) => {
                        Tensor::zeros(tensor.rows.len(), DType::F32, &Device::Cpu)?
                    }
                    (_, None) => Tensor::ones(tensor.rows.len(), DType::F32, &Device::Cpu)?,
                };
                blocks.insert(tensor.name(), block);
            }
        }
        Ok(Self { config: config.clone(), blocks })
    }

    /// Reads a checkpoint of CoLM, CoLM-Air or Llama in either layout; also returns the dtypes of the stored weights.
    pub fn read(dir: &Path) -> Result<(Self, StoredDtypes)> {
        let read = || -> Result<(Self, StoredDtypes)> {
            let source = Source::open(dir)?;
            source.check_zero_submatrices()?;
            let (mut blocks, mut stored) = (Blocks::new(), StoredDtypes::new());
            for tensor in source.config().tensors(source.config().all_chains()) {
                let block = source.tensor(&tensor)?.to_candle()?;
                stored.insert(tensor.name(), block.dtype());
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

    /// The 64-bit FNV-1a hash of all names and values.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut hasher = FnvHasher::default();
        for (name, block) in self.blocks.iter().collect::<BTreeMap<_, _>>() {
            hasher.write(name.as_bytes());
            for value in block.flatten_all()?.to_vec1::<f32>()? {
                hasher.write(&value.to_le_bytes());
            }
        }
        Ok(hasher.finish())
    }
}

/// The standard deviation of a tensor; for linear layers, times the square root of the number of inputs.
fn gain(config: &ColmConfig, id: TensorId) -> f64 {
    match id {
        TensorId::Embedding => 0.1,
        TensorId::Head => 0.5 / (config.hidden.total() as f64).sqrt(),
        TensorId::Weight { projection: Projection::O | Projection::Down, .. } => {
            (2. * config.file.num_hidden_layers as f64).sqrt().recip()
        }
        _ => 1.,
    }
}

/// Normally distributed values. (candle's CPU generator cannot be seeded.)
fn normal(rng: &mut ChaCha8Rng, shape: (usize, usize), deviation: f64) -> Result<Tensor> {
    let value = |_| {
        let uniform = [1. - rng.random::<f64>(), rng.random()];
        let [value, _] = box_muller(uniform, deviation);
        value as f32
    };
    let values: Vec<f32> = (0..shape.0 * shape.1).map(value).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
