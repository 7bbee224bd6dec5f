//! The trainer's losses and gradients against the float64 ones of `tests/golden/gradients`, for every recipe and for
//! whole batches and micro-batches. `python/tests/test_gradients.py` compares the Python package with the same files.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use colm_checkpoint::ColmConfig;
use colm_testing::folders::golden;
use colm_train::batch::Batch;
use colm_train::chain_model::ChainModel;
use colm_train::gradients::{gradients, trained_variables};
use colm_train::paper_recipe::PaperRecipe;
use colm_train::recipe::{Loss, Recipe};
use colm_train::tokenizer::Encoded;
use colm_train::weights::Weights;
use serde::Deserialize;

use crate::recipes::recipe_of;

/// The largest difference in f32, relative to the largest entry of the gradient at any k. It is up to 1e-5: gradients
/// pass through two layers of sums that partly cancel, and each is rounded by 6e-8.
const TOLERANCE: f64 = 1e-4;

/// The file `expected.json`.
#[derive(Deserialize)]
struct Expected {
    tokens: Vec<Vec<u32>>,
    predicted: Vec<Vec<bool>>,
    nll: HashMap<usize, f64>,
}

impl Expected {
    /// Each sequence, and which of its tokens are predicted.
    fn sequences(&self) -> Vec<Encoded> {
        let sequences = self.tokens.iter().zip(&self.predicted);
        sequences.map(|(ids, own)| Encoded { ids: ids.clone(), is_answer: own.clone() }).collect()
    }
}

struct Case {
    name: String,
    weights: Weights,
    expected: Expected,
    /// `{k}.{tensor}`
    gradients: HashMap<String, Tensor>,
}

fn cases() -> Vec<Case> {
    let folders = fs::read_dir(golden().join("gradients")).unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let read = |folder: &PathBuf| {
        let expected = fs::read(folder.join("expected.json")).unwrap();
        let gradients = folder.join("gradients.safetensors");
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            weights: Weights::read(folder).unwrap().0,
            expected: serde_json::from_slice(&expected).unwrap(),
            gradients: candle_core::safetensors::load(gradients, &Device::Cpu).unwrap(),
        }
    };
    folders.iter().map(read).collect()
}

impl Case {
    fn config(&self) -> &ColmConfig {
        &self.weights.config
    }

    /// The weights at k = 1, 2, .. n of the loss of `recipe`, from its definition: that at k = n, or the weighted mean
    /// of those at all k with trained chains, times the number of these k.
    fn loss_weights(&self, recipe: &Recipe) -> Vec<f64> {
        let chains = self.config().chains.count();
        let mut weights = match &recipe.loss {
            Loss::Last => (1..=chains).map(|k| if k == chains { 1. } else { 0. }).collect(),
            Loss::Joint(weights) => weights.clone(),
        };
        weights[..recipe.frozen].fill(0.);
        let scale = match recipe.loss {
            Loss::Last => 1.,
            Loss::Joint(_) => (chains - recipe.frozen) as f64 / weights.iter().sum::<f64>(),
        };
        weights.iter().map(|weight| scale * weight).collect()
    }

    /// The expected gradient of `tensor`, and the largest entry of its terms; `None` if no loss depends on the tensor.
    fn gradient(&self, tensor: &str, loss_weights: &[f64]) -> Option<(Vec<f64>, f64)> {
        let (mut sum, mut largest) = (Vec::new(), 0f64);
        for (k, &weight) in (1..).zip(loss_weights) {
            // A later chain has no effect at k, and no gradient.
            let Some(term) = self.gradients.get(&format!("{k}.{tensor}")) else {
                continue;
            };
            if weight > 0. {
                let term = term.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                sum.resize(term.len(), 0.);
                for (sum, term) in sum.iter_mut().zip(term) {
                    *sum += weight * f64::from(term);
                    largest = largest.max(weight * f64::from(term.abs()));
                }
            }
        }
        (!sum.is_empty()).then_some((sum, largest))
    }

    /// The trainer's losses at 1 to n chains, and its gradient for each trained tensor. The batch comes in
    /// micro-batches of `size` sequences.
    fn found(&self, recipe: &Recipe, size: usize) -> (Vec<f64>, Vec<(String, Tensor)>) {
        let chains = self.config().chains.count();
        let mut blocks = self.weights.blocks.clone();
        let (names, variables): (Vec<_>, Vec<_>) =
            trained_variables(self.config(), recipe, &mut blocks).unwrap().into_iter().unzip();
        let model = ChainModel::new(self.config(), &blocks).unwrap();
        let sequences = self.expected.sequences();
        let batch: Vec<_> = sequences.chunks(size).map(|part| Batch::new(part).unwrap()).collect();
        let predicted: usize = batch.iter().map(Batch::predicted).sum();
        let mut losses = vec![0.; chains];
        let mut sums: Vec<_> =
            variables.iter().map(|variable| variable.zeros_like().unwrap()).collect();
        for micro_batch in &batch {
            let share = micro_batch.predicted() as f64 / predicted as f64;
            let weights = recipe.loss_weights(chains);
            let (own_losses, own) =
                gradients(&model, variables.iter(), micro_batch, &weights, share).unwrap();
            losses.iter_mut().zip(own_losses).for_each(|(sum, loss)| *sum += loss);
            sums = sums.iter().zip(own).map(|(sum, own)| (sum + own).unwrap()).collect();
        }
        (losses, names.into_iter().zip(sums).collect())
    }

    fn compare(&self, recipe: &Recipe, size: usize) {
        let what = format!("{}, {recipe:?}, micro-batches of {size}", self.name);
        let (losses, found) = self.found(recipe, size);
        for (k, loss) in (1..).zip(losses) {
            let expected = self.expected.nll[&k];
            assert!((loss - expected).abs() < 1e-5, "{what}, k = {k}: {loss}, not {expected}");
        }
        let loss_weights = self.loss_weights(recipe);
        for (tensor, found) in found {
            let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let Some((expected, largest)) = self.gradient(&tensor, &loss_weights) else {
                assert!(found.iter().all(|value| *value == 0.), "{what}: {tensor}");
                continue;
            };
            assert!(largest > 1e-4, "{what}: {tensor} has gradients of {largest} at most");
            assert_eq!(found.len(), expected.len(), "{what}: {tensor}");
            for (found, expected) in found.into_iter().zip(expected) {
                let off = (f64::from(found) - expected).abs() / largest;
                assert!(off <= TOLERANCE, "{what}: {tensor} is off by {off}");
            }
        }
    }
}

#[test]
fn every_recipe_has_the_expected_gradients() {
    let cases = cases();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let chains = case.config().chains.count();
        let tied = case.config().file.tie_word_embeddings;
        for of in PaperRecipe::ALL.into_iter().filter(|of| !(tied && of.freezes_backbone())) {
            case.compare(&recipe_of(of, chains, None), 2);
            case.compare(&recipe_of(of, chains, None), 1);
        }
    }
}

#[test]
fn losses_with_weights_have_the_expected_gradients() {
    for case in cases() {
        let chains = case.config().chains.count();
        let weights = || Some([0.5, 1., 3.][..chains].to_vec());
        let joint = recipe_of(PaperRecipe::Joint, chains, weights());
        case.compare(&joint, 2);
        case.compare(&Recipe { frozen: 1, ..joint }, 2);
        if !case.config().file.tie_word_embeddings {
            case.compare(&recipe_of(PaperRecipe::ElasticHeads, chains, weights()), 2);
        }
    }
}

#[test]
fn the_loss_at_each_k_alone_has_the_expected_gradients() {
    for case in cases() {
        let chains = case.config().chains.count();
        for k in 1..=chains {
            let weights = (1..=chains).map(|at| if at == k { 1. } else { 0. }).collect();
            case.compare(&recipe_of(PaperRecipe::Joint, chains, Some(weights)), 2);
        }
    }
}
