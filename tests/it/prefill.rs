//! Prefix-chain prefill (docs/spec.md#prefix-chain-prefill) against the full computation, on the model without the
//! engine: prompts of unequal lengths, mixed chain counts, and cached prefixes of every length.

use colm_kernels::with_threads;
use colm_testing::random_model;
use colm_testing::standalone::{full_logits, tokens, Chunk, StandaloneModel};
use serde_json::Value;

fn assert_equal_for_every_cached_prefix(config: &Value) {
    let folder = random_model::folder(config);
    let folder = folder.path().join("model");
    let prompts = [5, 24, 17, 9].map(|length| tokens(length, length)).to_vec();
    let chains = [4, 2, 1, 3];
    let expected = full_logits(&StandaloneModel::in_f32(&folder, 1, 32), &prompts, &chains);

    for new in 1..=17 {
        let model = StandaloneModel::in_f32(&folder, prompts.len(), 32);
        let logits = model.after_prefix_hits(&prompts, &chains, new);
        for (sequence, logits) in logits.iter().enumerate() {
            // Equal to the bit: a row does not depend on the other rows of the step, on the cached
            // prefix or on where the prompt is cut.
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
        let model = StandaloneModel::in_f32(&folder.path().join("model"), 1, 96);
        let on = |threads| with_threads(threads, || full_logits(&model, &prompts, &[4, 3]));
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(5));
    }
}

#[test]
fn air_prefill_equals_the_full_computation() {
    assert_equal_for_every_cached_prefix(&random_model::air());
}

#[test]
fn colm_prefill_equals_the_full_computation() {
    assert_equal_for_every_cached_prefix(&random_model::colm());
}

#[test]
fn unequal_chains_prefill_equals_the_full_computation() {
    let unequal = random_model::with(random_model::air(), |json| {
        json["chains"] = serde_json::json!([2, 1, 4, 1]);
        json["num_key_value_heads"] = serde_json::json!(1);
    });
    assert_equal_for_every_cached_prefix(&unequal);
}

/// Decoding token by token at a chain count that changes with every token (Air): the cache holds the keys and values of
/// chain 1, which all chain counts share.
#[test]
fn air_decodes_at_a_chain_count_that_changes_every_token() {
    let folder = random_model::folder(&random_model::air());
    let folder = folder.path().join("model");
    let tokens = tokens(20, 3);
    let reference = StandaloneModel::in_f32(&folder, 1, 32);
    let expected: Vec<_> = (1..=4)
        .map(|k| full_logits(&reference, std::slice::from_ref(&tokens), &[k]).remove(0))
        .collect();
    let model = StandaloneModel::in_f32(&folder, 1, 32);
    for (from, chains) in (0..tokens.len()).zip((1..=4).cycle()) {
        let (tokens, to) = (&tokens, from + 1);
        let row =
            model.forward(&[Chunk { sequence: 0, tokens, from, to, chains, all_logits: false }]);
        assert_eq!(expected[chains - 1][from], row[0], "token {from} at {chains} chains");
    }
}
