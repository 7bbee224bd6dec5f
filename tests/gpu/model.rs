//! The model without the engine, step by step.

use candle_core::DType;
use colm_testing::random_model;
use colm_testing::standalone::{full_logits, tokens, Chunk, StandaloneModel};
use serde_json::Value;

use crate::models::{
    air_64, air_64_with_head_norms, colm_32, colm_32_with_head_norms, placement, unequal_128,
};

/// The largest allowed relative error (L2 norm) of a row of logits: the rounding of every operation of two layers to
/// `dtype`.
fn bound(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 3e-2,
        _ => 4e-3,
    }
}

fn assert_close(found: &[f32], expected: &[f32], dtype: DType, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>().sqrt();
    let differences = &mut found.iter().zip(expected).map(|(a, b)| a - b);
    let error = norm(differences) / norm(&mut expected.iter().copied());
    assert!(error <= bound(dtype), "{what} in {dtype:?}: relative error {error}");
}

/// Prompts that are shorter and longer than the tiles of the kernels.
fn prompts() -> Vec<Vec<u32>> {
    [5, 70, 17, 133].map(|length| tokens(length, length)).to_vec()
}

/// One step with all prompts, each at its own chain count and with `new` tokens that are not cached.
fn prompts_and_prefix_hits(config: &Value, dtype: DType) {
    let parent = random_model::folder(config);
    let folder = parent.path().join("model");
    let prompts = prompts();
    let most = config["chains"].as_array().unwrap().len();
    let chains = [most, 2, 1, most];
    let expected = full_logits(&StandaloneModel::in_f32(&folder, 1, 136), &prompts, &chains);

    for new in [1, 2, 40, 133] {
        let model = StandaloneModel::load(&folder, &placement(dtype, 16), prompts.len(), 136);
        let logits = model.after_prefix_hits(&prompts, &chains, new);
        for (sequence, logits) in logits.iter().enumerate() {
            let what = format!("sequence {sequence}, {new} new tokens");
            assert_close(logits, expected[sequence].last().unwrap(), dtype, &what);
        }
    }
}

/// Logits at every token of a prompt.
fn every_row(config: &Value, dtype: DType) {
    let parent = random_model::folder(config);
    let folder = parent.path().join("model");
    let prompts = [tokens(70, 7)];
    let model = StandaloneModel::load(&folder, &placement(dtype, 32), 1, 96);
    for k in 1..=config["chains"].as_array().unwrap().len() {
        let expected = full_logits(&StandaloneModel::in_f32(&folder, 1, 96), &prompts, &[k]);
        let found = full_logits(&model, &prompts, &[k]);
        for (row, (found, expected)) in found[0].iter().zip(&expected[0]).enumerate() {
            assert_close(found, expected, dtype, &format!("row {row} at {k} chains"));
        }
    }
}

#[test]
fn air_prompts_and_prefix_hits() {
    prompts_and_prefix_hits(&air_64(), DType::BF16);
    prompts_and_prefix_hits(&air_64(), DType::F16);
}

#[test]
fn models_with_head_norms() {
    for config in [air_64_with_head_norms(), colm_32_with_head_norms()] {
        prompts_and_prefix_hits(&config, DType::BF16);
        prompts_and_prefix_hits(&config, DType::F16);
        every_row(&config, DType::F16);
    }
}

#[test]
fn colm_prompts_and_prefix_hits() {
    prompts_and_prefix_hits(&colm_32(), DType::BF16);
    prompts_and_prefix_hits(&colm_32(), DType::F16);
}

#[test]
fn prompts_and_prefix_hits_of_unequal_chains() {
    prompts_and_prefix_hits(&unequal_128(), DType::F16);
}

#[test]
fn logits_of_every_row() {
    every_row(&air_64(), DType::F16);
    every_row(&colm_32(), DType::BF16);
    every_row(&unequal_128(), DType::BF16);
}

/// Decoding several sequences token by token, each at a chain count that changes with every token (Air).
#[test]
fn decoding_at_chain_counts_that_change() {
    let parent = random_model::folder(&air_64());
    let folder = parent.path().join("model");
    let sequences = [tokens(40, 1), tokens(40, 2), tokens(40, 3)];
    let reference = StandaloneModel::in_f32(&folder, 1, 48);
    let expected: Vec<_> = (1..=4).map(|k| full_logits(&reference, &sequences, &[k; 3])).collect();
    let model = StandaloneModel::load(&folder, &placement(DType::F16, 16), 3, 48);
    for from in 0..40 {
        let chains = |sequence: usize| 1 + (from + sequence) % 4;
        let parts = sequences.iter().enumerate().map(|(sequence, tokens)| Chunk {
            sequence,
            tokens,
            from,
            to: from + 1,
            chains: chains(sequence),
            all_logits: false,
        });
        let rows = model.forward(&parts.collect::<Vec<_>>());
        for (sequence, row) in rows.iter().enumerate() {
            let expected = &expected[chains(sequence) - 1][sequence][from];
            assert_close(row, expected, DType::F16, &format!("token {from} of {sequence}"));
        }
    }
}
