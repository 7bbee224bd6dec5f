//! Prefix-chain prefill (SPEC 5) against the full computation, on the model itself: unequal
//! lengths, mixed chain counts, and a prefix cached up to every remainder.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use colm::model::colm::Placed;
use colm::model::{ActiveRows, Colm, Sequence, Step};
use colm_checkpoint::{files_for, ColmConfig};
use colm_kernels::{with_threads, BlockTables, KvBlocks, Slots};
use mistralrs_quant::ShardedSafeTensors;
use serde_json::Value;

use crate::random_model;

const BLOCK_SIZE: usize = 8;

/// A model outside the engine, with a KV cache of its own.
struct Alone {
    config: ColmConfig,
    colm: Colm,
    kv: Vec<KvBlocks>,
    blocks_per_sequence: usize,
}

/// Tokens of a sequence in one step: all before `from` are cached, those before `to` are computed.
struct Part<'a> {
    sequence: usize,
    tokens: &'a [u32],
    from: usize,
    to: usize,
    chains: usize,
    /// Logits at every row, or at the last one.
    all_logits: bool,
}

impl Alone {
    fn load(folder: &Path, sequences: usize, longest: usize) -> Self {
        let config = ColmConfig::read(&folder.join("config.json")).unwrap();
        let k = config.chains.count();
        let mut tensors = HashMap::new();
        for file in files_for(folder, &config, k).unwrap() {
            tensors.extend(candle_core::safetensors::load(file, &Device::Cpu).unwrap());
        }
        let vb = ShardedSafeTensors::wrap(Box::new(tensors), DType::F32, Device::Cpu);
        let root = |_: Option<usize>| vb.clone();
        let placed = Placed { quantized_later: false, linears: &root, others: &root };
        let colm = Colm::load(&config, k, &None, &placed).unwrap();
        let blocks_per_sequence = longest.div_ceil(BLOCK_SIZE);
        let (heads, dim) = (config.kv_heads.total(), config.head_dim);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let layer = |_| {
            let blocks = sequences * blocks_per_sequence;
            let keys = zeros(&[blocks, heads, dim / 4, BLOCK_SIZE, 4]);
            let values = zeros(&[blocks, heads, dim, BLOCK_SIZE]);
            KvBlocks::from_host(&keys, &values, dim).unwrap()
        };
        let kv = (0..config.file.num_hidden_layers).map(layer).collect();
        Self { config, colm, kv, blocks_per_sequence }
    }

    /// The logits of one step, a row per logit asked for.
    fn forward(&self, parts: &[Part<'_>]) -> Vec<Vec<f32>> {
        let (mut tokens, mut slots, mut sequences, mut tables) = (vec![], vec![], vec![], vec![]);
        for part in parts {
            let first = part.sequence * self.blocks_per_sequence;
            tables.push((first..first + self.blocks_per_sequence).map(|b| b as u32).collect());
            tokens.extend_from_slice(&part.tokens[part.from..part.to]);
            slots.extend((part.from..part.to).map(|at| (first * BLOCK_SIZE + at) as i64));
            let rows = part.to - part.from;
            sequences.push(Sequence {
                first_position: part.from,
                rows,
                logits: if part.all_logits { 0..rows } else { rows - 1..rows },
                chains: part.chains,
            });
        }
        let active = ActiveRows::new(sequences, &self.config.kv_heads).unwrap();
        let step = Step::new(tokens, &Slots::new(slots), BlockTables::new(tables), active).unwrap();
        self.colm.forward(&step, &self.kv).unwrap().to_vec2().unwrap()
    }
}

fn tokens(length: usize, seed: usize) -> Vec<u32> {
    (0..length)
        .map(|at| ((at * 7919 + seed * 104_729 + at * at) % random_model::VOCAB) as u32)
        .collect()
}

/// The full computation: every chain at every row, one sequence at a time.
fn full(model: &Alone, prompts: &[Vec<u32>], chains: &[usize]) -> Vec<Vec<Vec<f32>>> {
    let alone = |(tokens, &chains): (&Vec<u32>, &usize)| {
        let (from, to) = (0, tokens.len());
        model.forward(&[Part { sequence: 0, tokens, from, to, chains, all_logits: true }])
    };
    prompts.iter().zip(chains).map(alone).collect()
}

fn prefix_hits_of_every_remainder(config: &Value) {
    let folder = random_model::folder(config);
    let folder = folder.path().join("model");
    let prompts = [5, 24, 17, 9].map(|length| tokens(length, length)).to_vec();
    let chains = [4, 2, 1, 3];
    let expected = full(&Alone::load(&folder, 1, 32), &prompts, &chains);

    for new in 1..=17 {
        let model = Alone::load(&folder, prompts.len(), 32);
        let part = |sequence: usize, from: usize, to: usize| Part {
            sequence,
            tokens: &prompts[sequence],
            from,
            to,
            chains: chains[sequence],
            all_logits: false,
        };
        // What another step has cached; short prompts have nothing cached.
        let cached = |sequence: usize| prompts[sequence].len().saturating_sub(new);
        let hits = (0..prompts.len()).filter(|&sequence| cached(sequence) > 0);
        let earlier: Vec<_> = hits.map(|sequence| part(sequence, 0, cached(sequence))).collect();
        model.forward(&earlier);
        let step = |sequence: usize| part(sequence, cached(sequence), prompts[sequence].len());
        let logits = model.forward(&(0..prompts.len()).map(step).collect::<Vec<_>>());
        for (sequence, logits) in logits.iter().enumerate() {
            // A row's bits are its own: not even the last one depends on the company, on what is
            // cached or on where the prompt was cut.
            let expected = expected[sequence].last().unwrap();
            assert_eq!(expected, logits, "sequence {sequence}, {new} new tokens");
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_number_of_threads() {
    for config in [random_model::air(), random_model::colm()] {
        let folder = random_model::folder(&config);
        let prompts = [tokens(70, 1), tokens(9, 2)];
        let model = Alone::load(&folder.path().join("model"), 1, 96);
        let on = |threads| with_threads(threads, || full(&model, &prompts, &[4, 3]));
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(5));
    }
}

#[test]
fn air_prefill_equals_the_full_computation() {
    prefix_hits_of_every_remainder(&random_model::air());
}

#[test]
fn colm_prefill_equals_the_full_computation() {
    prefix_hits_of_every_remainder(&random_model::colm());
}

#[test]
fn unequal_chains_prefill_equals_the_full_computation() {
    let unequal = random_model::with(random_model::air(), |json| {
        json["chains"] = serde_json::json!([2, 1, 4, 1]);
        json["num_key_value_heads"] = serde_json::json!(1);
    });
    prefix_hits_of_every_remainder(&unequal);
}

/// Decoding token by token at a chain count that changes every time (Air): only chain 1's keys and
/// values are in the cache, and they serve every count.
#[test]
fn air_decodes_at_a_chain_count_that_changes_every_token() {
    let folder = random_model::folder(&random_model::air());
    let folder = folder.path().join("model");
    let tokens = tokens(20, 3);
    let reference = Alone::load(&folder, 1, 32);
    let expected: Vec<_> =
        (1..=4).map(|k| full(&reference, std::slice::from_ref(&tokens), &[k]).remove(0)).collect();
    let model = Alone::load(&folder, 1, 32);
    for (from, chains) in (0..tokens.len()).zip((1..=4).cycle()) {
        let (tokens, to) = (&tokens, from + 1);
        let row =
            model.forward(&[Part { sequence: 0, tokens, from, to, chains, all_logits: false }]);
        assert_eq!(expected[chains - 1][from], row[0], "token {from} at {chains} chains");
    }
}
