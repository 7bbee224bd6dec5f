//! The names and shapes of the tensors of a config (docs/spec.md#tensors).

use std::collections::BTreeMap;

use colm_checkpoint::{ColmConfig, Projection, TensorId};
use colm_testing::small_checkpoint::{air_json, config_json, parse, with};
use serde_json::json;

fn tensors(config: &ColmConfig, k: usize) -> BTreeMap<String, Vec<usize>> {
    config
        .tensors(config.chain_count(k).unwrap())
        .map(|tensor| (tensor.name(), tensor.shape()))
        .collect()
}

#[test]
fn every_tensor_of_a_chain_has_its_name_and_shape() {
    let config = parse(with(config_json(), |json| json["num_hidden_layers"] = json!(1)));
    let all = tensors(&config, 3);
    assert_eq!(all.len(), 3 * 12);
    let of_last = [
        ("model.embed_tokens.chains.2.weight", vec![11, 4]),
        ("model.layers.0.self_attn.q_proj.chains.2.weight", vec![8, 16]),
        ("model.layers.0.self_attn.k_proj.chains.2.weight", vec![4, 16]),
        ("model.layers.0.self_attn.v_proj.chains.2.weight", vec![4, 16]),
        ("model.layers.0.self_attn.o_proj.chains.2.weight", vec![4, 32]),
        ("model.layers.0.mlp.gate_proj.chains.2.weight", vec![6, 16]),
        ("model.layers.0.mlp.up_proj.chains.2.weight", vec![6, 16]),
        ("model.layers.0.mlp.down_proj.chains.2.weight", vec![4, 24]),
        ("model.layers.0.input_layernorm.chains.2.weight", vec![4]),
        ("model.layers.0.post_attention_layernorm.chains.2.weight", vec![4]),
        ("model.norm.chains.2.weight", vec![4]),
        ("lm_head.chains.2.weight", vec![11, 4]),
    ];
    for (name, shape) in of_last {
        assert_eq!(all.get(name), Some(&shape), "{name}");
    }
    assert_eq!(all["model.layers.0.self_attn.o_proj.chains.0.weight"], [8, 16]);
    assert_eq!(all["model.layers.0.mlp.down_proj.chains.1.weight"], [4, 18]);
    assert_eq!(tensors(&config, 2).len(), 2 * 12);
}

#[test]
fn air_has_keys_and_values_in_the_first_chain_only() {
    let config = parse(with(air_json(), |json| json["num_hidden_layers"] = json!(1)));
    let all = tensors(&config, 3);
    assert_eq!(all.len(), 3 * 12 - 4);
    assert_eq!(all["model.layers.0.self_attn.k_proj.chains.0.weight"], [8, 8]);
    assert!(!all.contains_key("model.layers.0.self_attn.v_proj.chains.1.weight"));
}

#[test]
fn tied_embeddings_have_no_head() {
    let config = parse(with(config_json(), |json| json["tie_word_embeddings"] = json!(true)));
    assert!(config.tensor_ids().all(|id| id != TensorId::Head));
    assert!(tensors(&config, 3).keys().all(|name| !name.starts_with("lm_head")));
}

#[test]
fn biases_follow_their_two_flags() {
    let bias = |attention: bool, mlp: bool| {
        let config = parse(with(config_json(), |json| {
            json["num_hidden_layers"] = json!(1);
            json["attention_bias"] = json!(attention);
            json["mlp_bias"] = json!(mlp);
        }));
        let mut names = tensors(&config, 1);
        names.retain(|name, _| name.ends_with(".bias"));
        names
    };
    assert_eq!(bias(false, false).len(), 0);
    let attention = bias(true, false);
    assert_eq!(attention.len(), 4);
    assert_eq!(attention["model.layers.0.self_attn.q_proj.chains.0.bias"], [16]);
    assert_eq!(attention["model.layers.0.self_attn.o_proj.chains.0.bias"], [8]);
    let mlp = bias(false, true);
    assert_eq!(mlp.len(), 3);
    assert_eq!(mlp["model.layers.0.mlp.down_proj.chains.0.bias"], [8]);
}

#[test]
fn the_dense_layout_has_llamas_names_and_shapes() {
    let key = TensorId::Weight { layer: 1, projection: Projection::K };
    assert_eq!(key.dense_name(), "model.layers.1.self_attn.k_proj.weight");
    assert_eq!(parse(config_json()).dense_shapes(key), [[16, 16]]);
    assert_eq!(parse(air_json()).dense_shapes(key), [[8, 16], [8, 8]]);
    let down = TensorId::Weight { layer: 0, projection: Projection::Down };
    assert_eq!(parse(config_json()).dense_shapes(down), [[16, 24]]);
    assert_eq!(TensorId::Embedding.dense_name(), "model.embed_tokens.weight");
}
