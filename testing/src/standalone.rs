//! A model without the engine: forward passes on a KV cache of its own.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use colm::model::{Colm, HostSource, LoadOptions, Packing, SequenceInput, SequenceRows};
use colm_checkpoint::{files_for, ColmConfig};
use colm_kernels::{KvBlocks, MatmulPrecision};
use mistralrs_quant::ShardedSafeTensors;

use crate::random_model::VOCAB;

/// Device, dtype and KV block size of a model.
pub struct Placement {
    /// The device of weights and KV cache.
    pub device: Device,
    /// The dtype of weights and KV cache.
    pub dtype: DType,
    /// Positions per KV block.
    pub block_size: usize,
}

impl Placement {
    /// f32 on the CPU, with blocks so small that every test has several.
    pub fn cpu_f32() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, block_size: 8 }
    }
}

/// A model with a KV cache of its own. Each sequence has a fixed range of blocks.
pub struct StandaloneModel {
    colm: Colm,
    kv: Vec<KvBlocks>,
    block_size: usize,
    blocks_per_sequence: usize,
}

/// The rows of one sequence in a step: those of `tokens[from..to]`. The tokens before are cached already.
pub struct Chunk<'a> {
    /// The index of the sequence.
    pub sequence: usize,
    /// All tokens of the sequence so far.
    pub tokens: &'a [u32],
    /// The first row, and the number of tokens that are cached.
    pub from: usize,
    /// The end of the rows.
    pub to: usize,
    /// The chain count.
    pub chains: usize,
    /// Whether logits are asked for at every row or at the last one only.
    pub all_logits: bool,
}

impl StandaloneModel {
    /// Loads the model on the CPU in f32.
    pub fn in_f32(folder: &Path, sequences: usize, longest: usize) -> Self {
        Self::load(folder, &Placement::cpu_f32(), sequences, longest)
    }

    /// Loads all chains, with a KV cache for `sequences` sequences of up to `longest` tokens.
    pub fn load(folder: &Path, placement: &Placement, sequences: usize, longest: usize) -> Self {
        let Placement { device, dtype, block_size } = placement;
        let config = ColmConfig::read(&folder.join("config.json")).unwrap();
        let k = config.all_chains();
        let mut tensors = HashMap::new();
        for file in files_for(folder, &config, k).unwrap() {
            tensors.extend(candle_core::safetensors::load(file, device).unwrap());
        }
        let vb = ShardedSafeTensors::wrap(Box::new(tensors), *dtype, device.clone());
        let root = |_: Option<usize>| vb.clone();
        let source = HostSource { linears: &root, full_precision: &root, quantization: &None };
        let max_tokens = config.file.max_position_embeddings;
        let options = LoadOptions {
            max_tokens,
            kv_dtype: *dtype,
            packing: Packing::AsLoaded,
            matmul_precision: MatmulPrecision::F32,
        };
        let colm = Colm::load(&config, k, &source, &options, &|_| ()).unwrap();
        let blocks_per_sequence = longest.div_ceil(*block_size);
        let (heads, dim) = (config.kv_heads.total(), config.head_dim);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, *dtype, device).unwrap();
        let layer = |_| {
            let blocks = sequences * blocks_per_sequence;
            let keys = zeros(&[blocks, heads, dim / 4, *block_size, 4]);
            let values = zeros(&[blocks, heads, dim, *block_size]);
            KvBlocks::from_tensors(&keys, &values, dim).unwrap()
        };
        let kv = (0..config.file.num_hidden_layers).map(layer).collect();
        Self { colm, kv, block_size: *block_size, blocks_per_sequence }
    }

    /// Runs one step; returns a row of `vocab_size` logits for each row that asks for them.
    pub fn forward(&self, chunks: &[Chunk<'_>]) -> Vec<Vec<f32>> {
        let sequences = chunks.iter().map(|chunk| {
            let first = chunk.sequence * self.blocks_per_sequence;
            let rows = chunk.to - chunk.from;
            SequenceInput {
                rows: SequenceRows {
                    first_position: chunk.from,
                    count: rows,
                    logits: if chunk.all_logits { 0..rows } else { rows - 1..rows },
                    chain_count: chunk.chains,
                },
                tokens: chunk.tokens[chunk.from..chunk.to].to_vec(),
                block_table: (first..first + self.blocks_per_sequence).map(|b| b as u32).collect(),
            }
        });
        let step = self.colm.step(sequences.collect(), self.block_size).unwrap();
        self.colm.forward(&step, &self.kv).unwrap().to_vec2().unwrap()
    }

    /// The logits at the last token of every prompt, each at its chain count. One step computes the last `new` tokens
    /// of all prompts; an earlier step has cached the tokens before.
    pub fn after_prefix_hits(
        &self,
        prompts: &[Vec<u32>],
        chains: &[usize],
        new: usize,
    ) -> Vec<Vec<f32>> {
        let chunk = |sequence: usize, from: usize, to: usize| Chunk {
            sequence,
            tokens: &prompts[sequence],
            from,
            to,
            chains: chains[sequence],
            all_logits: false,
        };
        // 0 for prompts that are no longer than `new`.
        let cached = |sequence: usize| prompts[sequence].len().saturating_sub(new);
        let hits = (0..prompts.len()).filter(|&sequence| cached(sequence) > 0);
        let earlier: Vec<_> = hits.map(|sequence| chunk(sequence, 0, cached(sequence))).collect();
        if !earlier.is_empty() {
            self.forward(&earlier);
        }
        let step = |sequence: usize| chunk(sequence, cached(sequence), prompts[sequence].len());
        self.forward(&(0..prompts.len()).map(step).collect::<Vec<_>>())
    }
}

/// Arbitrary token ids of the random models' vocabulary.
pub fn tokens(length: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|at| ((at * 7919 + seed * 104_729 + at * at) % VOCAB) as u32).collect()
}

/// The logits at every token of every prompt from the full computation: all chains at all rows, one sequence at a time.
pub fn full_logits(
    model: &StandaloneModel,
    prompts: &[Vec<u32>],
    chains: &[usize],
) -> Vec<Vec<Vec<f32>>> {
    let logits = |(tokens, &chains): (&Vec<u32>, &usize)| {
        let (from, to) = (0, tokens.len());
        model.forward(&[Chunk { sequence: 0, tokens, from, to, chains, all_logits: true }])
    };
    prompts.iter().zip(chains).map(logits).collect()
}
