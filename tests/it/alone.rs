//! A model outside the engine, with a KV cache of its own.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use colm::model::{Colm, SequenceInput, Step, WeightSource};
use colm_checkpoint::{files_for, ColmConfig};
use colm_kernels::KvBlocks;
use mistralrs_quant::ShardedSafeTensors;

use crate::random_model;

/// Where a model runs and in what.
pub struct Place {
    pub device: Device,
    /// Of weights and KV cache.
    pub dtype: DType,
    /// Positions per KV block.
    pub block_size: usize,
}

impl Place {
    /// On the CPU in f32, in blocks so small that every test has several.
    pub fn f32() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, block_size: 8 }
    }
}

/// A model outside the engine, with a KV cache of its own.
pub struct Alone {
    config: ColmConfig,
    colm: Colm,
    kv: Vec<KvBlocks>,
    block_size: usize,
    blocks_per_sequence: usize,
}

/// Tokens of a sequence in one step: all before `from` are cached, those before `to` are computed.
pub struct Part<'a> {
    pub sequence: usize,
    pub tokens: &'a [u32],
    pub from: usize,
    pub to: usize,
    pub chains: usize,
    /// Logits at every row, or at the last one.
    pub all_logits: bool,
}

impl Alone {
    /// [`Self::load`] at [`Place::f32`].
    pub fn in_f32(folder: &Path, sequences: usize, longest: usize) -> Self {
        Self::load(folder, &Place::f32(), sequences, longest)
    }

    /// All chains, with room for so many sequences of up to `longest` tokens.
    pub fn load(folder: &Path, place: &Place, sequences: usize, longest: usize) -> Self {
        let Place { device, dtype, block_size } = place;
        let config = ColmConfig::read(&folder.join("config.json")).unwrap();
        let k = config.all_chains();
        let mut tensors = HashMap::new();
        for file in files_for(folder, &config, k).unwrap() {
            tensors.extend(candle_core::safetensors::load(file, device).unwrap());
        }
        let vb = ShardedSafeTensors::wrap(Box::new(tensors), *dtype, device.clone());
        let root = |_: Option<usize>| vb.clone();
        let source = WeightSource { quantized_later: false, linears: &root, others: &root };
        let colm =
            Colm::load(&config, k, config.file.max_position_embeddings, &None, &source).unwrap();
        let blocks_per_sequence = longest.div_ceil(*block_size);
        let (heads, dim) = (config.kv_heads.total(), config.head_dim);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, *dtype, device).unwrap();
        let layer = |_| {
            let blocks = sequences * blocks_per_sequence;
            let keys = zeros(&[blocks, heads, dim / 4, *block_size, 4]);
            let values = zeros(&[blocks, heads, dim, *block_size]);
            KvBlocks::from_host(&keys, &values, dim).unwrap()
        };
        let kv = (0..config.file.num_hidden_layers).map(layer).collect();
        Self { config, colm, kv, block_size: *block_size, blocks_per_sequence }
    }

    /// The logits of one step, a row per logit asked for.
    pub fn forward(&self, parts: &[Part<'_>]) -> Vec<Vec<f32>> {
        let sequences = parts.iter().map(|part| {
            let first = part.sequence * self.blocks_per_sequence;
            let rows = part.to - part.from;
            SequenceInput {
                tokens: part.tokens[part.from..part.to].to_vec(),
                first_position: part.from,
                logits: if part.all_logits { 0..rows } else { rows - 1..rows },
                chain_count: part.chains,
                blocks: (first..first + self.blocks_per_sequence).map(|b| b as u32).collect(),
            }
        });
        let (block_size, kv_heads) = (self.block_size, &self.config.kv_heads);
        let step = Step::new(sequences.collect(), block_size, kv_heads).unwrap();
        self.colm.forward(&step, &self.kv).unwrap().to_vec2().unwrap()
    }
}

impl Alone {
    /// The logits at the last row of every prompt, each at its chain count, all in one step that computes the
    /// last `new` tokens of each: what stands before them another step has cached.
    pub fn after_prefix_hits(
        &self,
        prompts: &[Vec<u32>],
        chains: &[usize],
        new: usize,
    ) -> Vec<Vec<f32>> {
        let part = |sequence: usize, from: usize, to: usize| Part {
            sequence,
            tokens: &prompts[sequence],
            from,
            to,
            chains: chains[sequence],
            all_logits: false,
        };
        // Short prompts have nothing cached.
        let cached = |sequence: usize| prompts[sequence].len().saturating_sub(new);
        let hits = (0..prompts.len()).filter(|&sequence| cached(sequence) > 0);
        let earlier: Vec<_> = hits.map(|sequence| part(sequence, 0, cached(sequence))).collect();
        if !earlier.is_empty() {
            self.forward(&earlier);
        }
        let step = |sequence: usize| part(sequence, cached(sequence), prompts[sequence].len());
        self.forward(&(0..prompts.len()).map(step).collect::<Vec<_>>())
    }
}

/// Any tokens of the random models' vocabulary.
pub fn tokens(length: usize, seed: usize) -> Vec<u32> {
    (0..length)
        .map(|at| ((at * 7919 + seed * 104_729 + at * at) % random_model::VOCAB) as u32)
        .collect()
}

/// The full computation: every chain at every row, one sequence at a time.
pub fn full(model: &Alone, prompts: &[Vec<u32>], chains: &[usize]) -> Vec<Vec<Vec<f32>>> {
    let alone = |(tokens, &chains): (&Vec<u32>, &usize)| {
        let (from, to) = (0, tokens.len());
        model.forward(&[Part { sequence: 0, tokens, from, to, chains, all_logits: true }])
    };
    prompts.iter().zip(chains).map(alone).collect()
}
