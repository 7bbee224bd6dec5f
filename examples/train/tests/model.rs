//! The dense model keeps the chains apart, learns, and survives being saved.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use colm_checkpoint::{Architecture, ColmConfig, ConfigFile};
use colm_train::model::DenseColm;
use colm_train::parameters::{init, parameters};
use colm_train::save;
use colm_train::tokenizer::Chat;
use colm_train::train::{Recipe, Trainer};

fn config(architecture: Architecture, vocab_size: usize) -> ColmConfig {
    let file = ConfigFile {
        architectures: vec![architecture.name().into()],
        model_type: architecture.model_type().into(),
        chains: vec![2, 1, 1],
        vocab_size,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 8,
        num_key_value_heads: Some(if architecture == Architecture::Colm { 4 } else { 2 }),
        head_dim: Some(8),
        hidden_act: "silu".into(),
        max_position_embeddings: 256,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.,
        rope_scaling: None,
        tie_word_embeddings: false,
        attention_bias: architecture == Architecture::Colm,
        mlp_bias: false,
        other: Default::default(),
    };
    ColmConfig::new(file).unwrap()
}

const BOTH: [Architecture; 2] = [Architecture::Colm, Architecture::ColmAir];

/// Seeded parameters by dense name.
fn dense(config: &ColmConfig, seed: u64) -> HashMap<String, Tensor> {
    let variables = init(config, seed).unwrap();
    let data = variables.data().lock().unwrap();
    data.iter().map(|(name, variable)| (name.clone(), variable.as_detached_tensor())).collect()
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
fn the_model_at_k_chains_does_not_see_the_chains_above() {
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
fn what_stands_above_the_block_diagonal_is_masked() {
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
fn a_position_does_not_see_those_after_it() {
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
        let weights = dense(&config, 5);
        let direct = model(&config, weights.clone());
        let dir = tempfile::tempdir().unwrap();
        save::save(dir.path(), &config, DType::F32, |name| weights.get(name).cloned()).unwrap();
        for i in 1..=chains {
            assert!(dir.path().join(format!("model-chain-0000{i}-of-00003.safetensors")).is_file());
        }
        let chain_layout = save::load(dir.path()).unwrap();

        let other = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("config.json"), other.path().join("config.json")).unwrap();
        candle_core::safetensors::save(&weights, other.path().join("model.safetensors")).unwrap();
        let dense_layout = save::load(other.path()).unwrap();
        for k in 1..=chains {
            assert_eq!(logits(&direct, k), logits(&chain_layout, k), "{architecture:?}");
            assert_eq!(logits(&direct, k), logits(&dense_layout, k), "{architecture:?}");
        }
    }
}

fn recipe() -> Recipe {
    Recipe {
        seed: 4,
        steps: 20,
        lists_from: 10,
        tables_from: 15,
        batch: 8,
        rates: vec![(0, 0.), (5, 1e-2), (10, 1e-2), (20, 0.)],
        focus: vec![(9, 0.), (10, 1.)],
        weight_decay: 0.05,
        clip: 1.,
    }
}

#[test]
fn the_rate_runs_in_straight_lines_between_its_points() {
    let rates = [0, 1, 5, 7, 10, 15, 20, 25].map(|step| (1e6 * recipe().rate_at(step)).round());
    assert_eq!(rates, [0., 2e3, 1e4, 1e4, 1e4, 5e3, 0., 0.]);
    assert_eq!(recipe().loss_weights(0, 4), [1., 1., 1., 1.]);
    assert_eq!(recipe().loss_weights(10, 4), [0.4, 0.8, 1.2, 1.6]);
}

fn trainer(threads: usize) -> Trainer {
    let chat = Chat::train(4, 500, 320).unwrap();
    let config = config(Architecture::ColmAir, chat.vocab_size());
    Trainer::new(&config, chat, recipe(), threads).unwrap()
}

#[test]
fn training_lowers_the_loss_of_every_chain_count() {
    let mut trainer = trainer(1);
    let first = trainer.step().unwrap().losses;
    let last = (1..recipe().steps).map(|_| trainer.step().unwrap()).last().unwrap().losses;
    assert_eq!(first.len(), 3);
    for (first, last) in first.iter().zip(&last) {
        assert!(last < &(first * 0.9), "{first} to {last}");
    }
}

#[test]
fn a_resumed_training_goes_on_as_if_never_stopped() {
    let file = tempfile::tempdir().unwrap();
    let state = file.path().join("state.safetensors");
    let (mut whole, mut resumed) = (trainer(2), trainer(1));
    for _ in 0..2 {
        whole.step().unwrap();
    }
    whole.save_state(&state).unwrap();
    resumed.resume(&state).unwrap();
    assert_eq!(resumed.steps_done(), 2);
    assert_eq!(whole.step().unwrap().losses, resumed.step().unwrap().losses);
    assert_eq!(whole.step().unwrap().losses, resumed.step().unwrap().losses);
}
