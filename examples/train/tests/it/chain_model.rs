//! `ChainModel` has the logits and gradients of the dense masked model.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::loss::cross_entropy;
use candle_nn::VarBuilder;
use colm_train::chain_model::{Blocks, ChainModel};
use colm_train::model::DenseColm;
use colm_train::parameters::{self, parameters};
use colm_train::weights::Weights;

use crate::models::{
    bits, config, largest_difference, llama, weights, with_widths_and_head_norms, BOTH,
};

const VOCABULARY: usize = 40;

fn tokens() -> Tensor {
    Tensor::new(&[[3u32, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]], &Device::Cpu).unwrap()
}

fn targets() -> Tensor {
    let next = (0..16).map(|at| (at * 7 + 3) % VOCABULARY as u32);
    Tensor::from_iter(next, &Device::Cpu).unwrap()
}

fn models() -> Vec<Weights> {
    let configs = BOTH.map(|architecture| config(architecture, VOCABULARY));
    let others = BOTH.map(|architecture| with_widths_and_head_norms(architecture, VOCABULARY));
    configs
        .into_iter()
        .chain(others)
        .chain([llama(VOCABULARY)])
        .map(|config| weights(&config, 3))
        .collect()
}

/// A weighted sum with different weights for every k.
fn joint(losses: Vec<Tensor>) -> Tensor {
    let weighted = losses.iter().enumerate().map(|(at, loss)| (loss * (1. + at as f64)).unwrap());
    weighted.reduce(|sum, loss| (sum + loss).unwrap()).unwrap()
}

#[test]
fn logits_and_gradients_equal_those_of_the_dense_model() {
    for weights in models() {
        let config = &weights.config;
        let chains = config.chains.count();
        let dense = parameters::dense(config, &weights.blocks).unwrap();
        let dense =
            dense.into_iter().map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap()));
        let dense: std::collections::HashMap<String, Var> = dense.collect();
        let tensors =
            dense.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let reference =
            DenseColm::new(config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu));
        let reference = reference.unwrap();
        let hidden = reference.forward(&tokens()).unwrap().flatten_to(1).unwrap();
        let expected = reference.logits_up_to(&hidden, chains).unwrap();

        let blocks: std::collections::HashMap<String, Var> = (weights.blocks.iter())
            .map(|(name, block)| (name.clone(), Var::from_tensor(block).unwrap()))
            .collect();
        let tensors: Blocks =
            blocks.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let model = ChainModel::new(config, &tensors).unwrap();
        let found = model.logits(&model.forward(&tokens()).unwrap()).unwrap();

        assert_eq!(found.len(), chains);
        for (found, expected) in found.iter().zip(&expected) {
            let difference = largest_difference(found, expected);
            assert!(difference < 1e-5, "{:?}: {difference}", config.file.architectures);
        }
        let loss = |logits: Vec<Tensor>| {
            joint(logits.iter().map(|logits| cross_entropy(logits, &targets()).unwrap()).collect())
        };
        let (of_dense, of_blocks) =
            (loss(expected).backward().unwrap(), loss(found).backward().unwrap());
        for parameter in parameters(config) {
            let whole = of_dense.get(&dense[&parameter.name()]).unwrap();
            for i in 0..chains {
                let Some(expected) = parameter.cut(whole, i).unwrap() else {
                    continue;
                };
                let name = parameter.chain_name(i);
                let found = of_blocks.get(&blocks[&name]).unwrap_or_else(|| panic!("no {name}"));
                let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                let difference = largest_difference(found, &expected);
                assert!(size > 1e-6, "{name}: a gradient of {size} is too small to compare");
                assert!(difference < 1e-4 * size.max(0.01), "{name}: {difference} of {size}");
            }
        }
    }
}

#[test]
fn a_chain_does_not_depend_on_later_chains() {
    for architecture in BOTH {
        let config = config(architecture, VOCABULARY);
        let (kept, other) = (weights(&config, 1), weights(&config, 2));
        let logits = |blocks: &Blocks| {
            let model = ChainModel::new(&config, blocks).unwrap();
            model.logits(&model.forward(&tokens()).unwrap()).unwrap()
        };
        let before = logits(&kept.blocks);
        for k in 1..config.chains.count() {
            let mut mixed = kept.blocks.clone();
            for tensor in (k..config.chains.count()).flat_map(|chain| config.tensors_of(chain)) {
                mixed.insert(tensor.name(), other.blocks[&tensor.name()].clone());
            }
            let after = logits(&mixed);
            assert_eq!(bits(&before[k - 1]), bits(&after[k - 1]), "{architecture:?}, k = {k}");
            assert_ne!(bits(&before[k]), bits(&after[k]), "{architecture:?}, k = {}", k + 1);
        }
    }
}

#[test]
fn frozen_chains_are_outside_the_autograd_graph() {
    for architecture in BOTH {
        let config = config(architecture, VOCABULARY);
        let mut blocks = weights(&config, 1).blocks;
        for tensor in config.tensors_of(2) {
            let trained = Var::from_tensor(&blocks[&tensor.name()]).unwrap();
            blocks.insert(tensor.name(), trained.as_tensor().clone());
        }
        let model = ChainModel::new(&config, &blocks).unwrap();
        let z = model.forward(&tokens()).unwrap();
        assert_eq!(z.iter().map(Tensor::track_op).collect::<Vec<_>>(), [false, false, true]);
        let logits = model.logits(&z).unwrap();
        let gradients = cross_entropy(&logits[2], &targets()).unwrap().backward().unwrap();
        for tensor in config.tensors(config.all_chains()) {
            let found = gradients.get(&blocks[&tensor.name()]).is_some();
            assert_eq!(found, tensor.chain == 2, "{}", tensor.name());
        }
    }
}

#[test]
fn the_error_names_a_missing_or_misshapen_block() {
    let config = config(BOTH[0], VOCABULARY);
    let name = "model.layers.1.mlp.up_proj.chains.1.weight";
    let mut blocks = weights(&config, 1).blocks;
    blocks.insert(name.into(), Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap());
    let refused = ChainModel::new(&config, &blocks).err().unwrap().to_string();
    assert!(refused.contains(name) && refused.contains("[12, 24]"), "{refused}");
    blocks.remove(name);
    let refused = ChainModel::new(&config, &blocks).err().unwrap().to_string();
    assert!(refused.contains(name), "{refused}");
}
