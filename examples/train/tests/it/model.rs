//! The dense model: independence of chains and positions, saving and reading.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use colm_checkpoint::{Architecture, ColmConfig};
use colm_train::model::DenseColm;
use colm_train::parameters::{self, parameters};
use colm_train::save;

use crate::models::{self, config, BOTH};

/// Seeded parameters by dense name.
fn dense(config: &ColmConfig, seed: u64) -> HashMap<String, Tensor> {
    let weights = models::weights(config, seed);
    parameters::dense(config, &weights.blocks).unwrap()
}

fn model(config: &ColmConfig, dense: HashMap<String, Tensor>) -> DenseColm {
    let weights = VarBuilder::from_tensors(dense, DType::F32, &Device::Cpu);
    DenseColm::new(config, weights).unwrap()
}

fn logits(model: &DenseColm, k: usize) -> Vec<f32> {
    let tokens =
        Tensor::new(&[[3u32, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]], &Device::Cpu);
    let hidden = model.forward(&tokens.unwrap()).unwrap();
    model.logits_at(&hidden, k).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn logits_at_k_chains_do_not_depend_on_later_chains() {
    for architecture in BOTH {
        let config = config(architecture, 40);
        let chains = config.chains.count();
        let (kept, other) = (dense(&config, 1), dense(&config, 2));
        for k in 1..chains {
            let mut scrambled = HashMap::new();
            for parameter in parameters(&config) {
                let name = parameter.name();
                let joined = parameter.join(chains, |i| {
                    let from = if i < k { &kept } else { &other };
                    Ok(parameter.cut(&from[&name], i)?.unwrap())
                });
                scrambled.insert(name, joined.unwrap());
            }
            let (before, after) = (model(&config, kept.clone()), model(&config, scrambled));
            assert_eq!(logits(&before, k), logits(&after, k), "{architecture:?}, k = {k}");
            assert_ne!(logits(&before, k + 1), logits(&after, k + 1));
        }
    }
}

#[test]
fn blocks_above_the_diagonal_are_masked() {
    for architecture in BOTH {
        let config = config(architecture, 40);
        let clean = dense(&config, 1);
        let mut dirty = clean.clone();
        for parameter in parameters(&config) {
            let weight = &clean[&parameter.name()];
            if weight.rank() == 2 {
                let outside = (1. - parameter.mask(config.chains.count()).unwrap()).unwrap();
                dirty.insert(parameter.name(), (weight + outside).unwrap());
            }
        }
        assert_ne!(
            clean["model.layers.0.mlp.up_proj.weight"].to_vec2::<f32>().unwrap(),
            dirty["model.layers.0.mlp.up_proj.weight"].to_vec2::<f32>().unwrap(),
        );
        assert_eq!(logits(&model(&config, clean), 3), logits(&model(&config, dirty), 3));
    }
}

#[test]
fn a_position_does_not_depend_on_later_ones() {
    let config = config(Architecture::ColmAir, 40);
    let model = model(&config, dense(&config, 1));
    let first = |tokens: &[u32]| {
        let tokens = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = model.forward(&tokens).unwrap().narrow(1, 0, 3).unwrap();
        hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(first(&[3, 1, 4, 1, 5]), first(&[3, 1, 4, 9, 2]));
    assert_ne!(first(&[3, 1, 4, 1, 5]), first(&[2, 1, 4, 1, 5]));
}

#[test]
fn a_saved_model_reads_back_the_same_from_either_layout() {
    for architecture in BOTH {
        let config = config(architecture, 40);
        let chains = config.chains.count();
        let weights = models::weights(&config, 5);
        let dense = parameters::dense(&config, &weights.blocks).unwrap();
        let direct = model(&config, dense.clone());
        let dir = tempfile::tempdir().unwrap();
        save::save(dir.path(), &weights, DType::F32).unwrap();
        for i in 1..=chains {
            assert!(dir.path().join(format!("model-chain-0000{i}-of-00003.safetensors")).is_file());
        }
        let chain_layout = save::load(dir.path()).unwrap();

        let other = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("config.json"), other.path().join("config.json")).unwrap();
        candle_core::safetensors::save(&dense, other.path().join("model.safetensors")).unwrap();
        let dense_layout = save::load(other.path()).unwrap();
        for k in 1..=chains {
            assert_eq!(logits(&direct, k), logits(&chain_layout, k), "{architecture:?}");
            assert_eq!(logits(&direct, k), logits(&dense_layout, k), "{architecture:?}");
        }
    }
}
