//! Training: frozen and trained chains, losses, saving and resuming.

use std::path::Path;
use std::sync::LazyLock;

use candle_core::DType;
use colm_checkpoint::convert::{expand, Growth, Init};
use colm_checkpoint::verify::verify;
use colm_checkpoint::{Architecture, Chains, ColmConfig, Layout, Source};
use colm_train::chain_model::ChainModel;
use colm_train::data::{Mix, Task};
use colm_train::recipe::{Loss, Recipe};
use colm_train::save;
use colm_train::tokenizer::ChatTokenizer;
use colm_train::train::Trainer;
use colm_train::weights::Weights;

use crate::models::{bits, config, llama, weights, BOTH};

/// A tokenizer for the small models.
pub fn chat() -> ChatTokenizer {
    static CHAT: LazyLock<ChatTokenizer> =
        LazyLock::new(|| ChatTokenizer::train(4, 300, 320, Mix::of_vocabulary()).unwrap());
    CHAT.clone()
}

/// A short run that trains everything on the joint loss.
pub fn recipe(chains: usize) -> Recipe {
    Recipe {
        seed: 4,
        steps: 12,
        batch_size: 16,
        tasks: vec![Task::Compare, Task::Letter],
        loss: Loss::in_proportion_to_k(chains),
        frozen: 0,
        frozen_backbone: false,
        learning_rate: 1e-2,
        warmup: 2,
        weight_decay: 0.05,
        max_gradient_norm: 1.,
    }
}

/// Trains random weights.
pub fn trainer(config: impl Fn(usize) -> ColmConfig, recipe: Recipe, threads: usize) -> Trainer {
    let chat = chat();
    let weights = weights(&config(chat.vocab_size()), 1);
    Trainer::new(weights, chat, recipe, threads).unwrap()
}

fn colm(vocabulary: usize) -> ColmConfig {
    config(Architecture::Colm, vocabulary)
}

/// The losses of `count` steps.
pub fn steps(trainer: &mut Trainer, count: usize) -> Vec<Vec<f64>> {
    (0..count).map(|_| trainer.step().unwrap().losses).collect()
}

#[test]
fn the_learning_rate_has_a_linear_warm_up_and_a_cosine_decay() {
    let recipe = Recipe { steps: 102, warmup: 2, learning_rate: 4., ..recipe(3) };
    let rates = [0, 1, 2, 52, 102].map(|step| (1e9 * recipe.learning_rate_at(step)).round() / 1e9);
    assert_eq!(rates, [2., 4., 4., 2., 0.]);
}

#[test]
fn the_weights_of_a_joint_loss_sum_to_the_trained_chains() {
    let mut recipe = recipe(4);
    assert_eq!(recipe.loss_weights(4), [0.4, 0.8, 1.2, 1.6]);
    recipe.frozen = 2;
    let weights = recipe.loss_weights(4);
    assert_eq!(weights[..2], [0., 0.]);
    assert!((weights[2] - 6. / 7.).abs() < 1e-12 && (weights[3] - 8. / 7.).abs() < 1e-12);
    recipe.loss = Loss::Last;
    assert_eq!(recipe.loss_weights(4), [0., 0., 0., 1.]);
}

#[test]
fn invalid_recipes_fail() {
    let good = recipe(3);
    for (bad, hint) in [
        (Recipe { frozen: 3, ..good.clone() }, "expected at most 2"),
        (Recipe { batch_size: 0, ..good.clone() }, "batch_size = 0"),
        (Recipe { tasks: vec![], ..good.clone() }, "at least one task"),
        (Recipe { warmup: 12, ..good.clone() }, "warm-up = 12"),
        (Recipe { learning_rate: f64::NAN, ..good.clone() }, "learning rate = NaN"),
        (Recipe { loss: Loss::Joint(vec![1., 2.]), ..good.clone() }, "2 loss weights; expected 3"),
        (Recipe { loss: Loss::Joint(vec![1., -2., 3.]), ..good.clone() }, "no negative"),
        (Recipe { loss: Loss::Joint(vec![1., 0., 0.]), frozen: 1, ..good.clone() }, "k > 1"),
    ] {
        let refused = bad.check(&colm(300)).unwrap_err().to_string();
        assert!(refused.contains(hint), "{refused}");
    }
    good.check(&colm(300)).unwrap();
}

#[test]
fn training_lowers_the_loss_at_every_k() {
    for of in
        [|vocabulary| config(BOTH[0], vocabulary), |vocabulary| config(BOTH[1], vocabulary), llama]
    {
        let chains = of(300).chains.count();
        let losses = steps(&mut trainer(of, recipe(chains), 1), 12);
        assert_eq!(losses[0].len(), chains);
        for (first, last) in losses[0].iter().zip(&losses[11]) {
            assert!(last < &(first * 0.8), "{first} to {last}");
        }
    }
}

#[test]
fn each_loss_favors_the_models_that_it_weights() {
    let losses = |loss| {
        let mut trainer = trainer(colm, Recipe { loss, ..recipe(3) }, 1);
        steps(&mut trainer, 12).pop().unwrap()
    };
    let (first, last) = (losses(Loss::Joint(vec![1., 0., 0.])), losses(Loss::Last));
    assert!(first[0] < last[0] && last[2] < first[2], "{first:?}, {last:?}");
    // With one chain both losses are the same.
    let alone = |loss| {
        let mut trainer = trainer(llama, Recipe { loss, ..recipe(1) }, 1);
        steps(&mut trainer, 3)
    };
    assert_eq!(alone(Loss::in_proportion_to_k(1)), alone(Loss::Last));
}

#[test]
fn frozen_chains_stay_the_same_and_others_change() {
    for architecture in BOTH {
        for frozen in [1, 2] {
            let recipe = Recipe { frozen, loss: Loss::Last, ..recipe(3) };
            let mut trainer = trainer(|size| config(architecture, size), recipe, 1);
            let before = trainer.weights().unwrap();
            let losses = steps(&mut trainer, 3);
            let after = trainer.weights().unwrap();
            for tensor in before.config.tensors(before.config.all_chains()) {
                let name = tensor.name();
                let same = bits(&before.blocks[&name]) == bits(&after.blocks[&name]);
                assert_eq!(same, tensor.chain < frozen, "{architecture:?}: {name}");
            }
            assert!(losses[2][2] < losses[0][2]);
        }
    }
}

#[test]
fn a_grown_model_contains_its_base() {
    let chat = chat();
    let dir = tempfile::tempdir().unwrap();
    let (base, grown) = (dir.path().join("base"), dir.path().join("grown"));
    let mut first = trainer(llama, Recipe { steps: 3, ..recipe(1) }, 1);
    steps(&mut first, 3);
    save::save(&base, &first.weights().unwrap(), DType::F32).unwrap();
    let source = Source::open(&base).unwrap();
    for layout in [Layout::Chains, Layout::Dense] {
        let growth = Growth::Ratios(Chains::new(vec![1, 1]).unwrap());
        let plan = expand(&source, &growth, Architecture::Colm, Init::Zero, 0, layout).unwrap();
        plan.write(&source, &grown, true, |_| {}).unwrap();
        let (weights, _) = Weights::read(&grown).unwrap();
        let recipe = Recipe { frozen: 1, loss: Loss::Last, ..recipe(2) };
        let mut second = Trainer::new(weights, self::chat(), recipe, 1).unwrap();
        let batch = &second.batch(100).unwrap()[0];
        let small = ChainModel::new(first.config(), &first.weights().unwrap().blocks).unwrap();
        let expected = bits(&batch.logits(&small).unwrap()[0]);
        let [k1, k2] = batch.logits(second.model()).unwrap().try_into().unwrap();
        assert_eq!([bits(&k1), bits(&k2)], [expected.clone(), expected.clone()]);
        let losses = steps(&mut second, 12);
        let [k1, k2] = batch.logits(second.model()).unwrap().try_into().unwrap();
        assert_eq!(bits(&k1), expected);
        assert_ne!(bits(&k2), expected);
        assert!(losses[11][1] < losses[11][0], "{:?}", losses[11]);
    }
    assert_eq!(chat.vocab_size(), source.config().file.vocab_size);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.safetensors");
    // The number of threads makes no difference either.
    let (mut whole, mut stopped, mut resumed) =
        (trainer(colm, recipe(3), 2), trainer(colm, recipe(3), 1), trainer(colm, recipe(3), 1));
    let losses = steps(&mut whole, 6);
    steps(&mut stopped, 3);
    stopped.save_state(&state).unwrap();
    resumed.resume(&state).unwrap();
    assert_eq!(resumed.steps_done(), 3);
    assert_eq!(losses[3..], steps(&mut resumed, 3));
    let (whole, resumed) = (whole.weights().unwrap(), resumed.weights().unwrap());
    for (name, block) in &whole.blocks {
        assert_eq!(bits(block), bits(&resumed.blocks[name]), "{name}");
    }
}

#[test]
fn the_state_of_another_run_fails_to_resume() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.safetensors");
    trainer(colm, recipe(3), 1).save_state(&state).unwrap();
    let refused = |mut trainer: Trainer| format!("{:#}", trainer.resume(&state).unwrap_err());
    let other = refused(trainer(colm, Recipe { steps: 13, ..recipe(3) }, 1));
    assert!(other.contains("steps = 12, here 13"), "{other}");
    let other = refused(trainer(|size| config(Architecture::ColmAir, size), recipe(3), 1));
    assert!(other.contains("architectures"), "{other}");
    let weights = weights(&colm(chat().vocab_size()), 2);
    let other = refused(Trainer::new(weights, chat(), recipe(3), 1).unwrap());
    assert!(other.contains("initial weights"), "{other}");
    std::fs::write(&state, "no state").unwrap();
    let broken = refused(trainer(colm, recipe(3), 1));
    assert!(broken.contains("state.safetensors"), "{broken}");
    std::fs::remove_file(&state).unwrap();
    let missing = refused(trainer(colm, recipe(3), 1));
    assert!(missing.contains("state.safetensors"), "{missing}");
}

#[test]
fn a_saved_checkpoint_verifies_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    for (at, of) in
        [|size| config(BOTH[0], size), |size| config(BOTH[1], size), llama].into_iter().enumerate()
    {
        let chains = of(300).chains.count();
        let trainer = trainer(of, recipe(chains), 1);
        let folder = dir.path().join(at.to_string());
        for dtype in [DType::F32, DType::F16] {
            save::save(&folder, &trainer.weights().unwrap(), dtype).unwrap();
            trainer.chat().save(&folder, 256).unwrap();
            let problems = verify(&folder, None, |_| {});
            assert!(problems.is_empty(), "{problems:?}");
            let (read, stored) = Weights::read(&folder).unwrap();
            assert_eq!(stored.len(), read.blocks.len());
            assert!(stored.values().all(|stored| *stored == dtype), "{stored:?}");
            for (name, block) in &trainer.weights().unwrap().blocks {
                let expected = block.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
                assert_eq!(bits(&read.blocks[name]), bits(&expected), "{name}");
            }
        }
    }
}

#[test]
fn the_error_names_a_folder_without_checkpoint() {
    let refused = format!("{:#}", Weights::read(Path::new("no/such/folder")).err().unwrap());
    assert!(refused.contains("no/such/folder"), "{refused}");
}

/// As with --force. Readers refuse the chain files of another model.
#[test]
fn a_saved_checkpoint_replaces_one_of_other_chains() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    std::fs::write(folder.join("model-chain-notes.txt"), "kept").unwrap();
    for chains in [3, 1, 3] {
        let of = if chains == 1 { llama } else { colm };
        let trainer = trainer(of, recipe(chains), 1);
        save::save(folder, &trainer.weights().unwrap(), DType::F32).unwrap();
        trainer.chat().save(folder, 256).unwrap();
        let problems = verify(folder, None, |_| {});
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(Weights::read(folder).unwrap().0.config.chains.count(), chains);
    }
    assert!(folder.join("model-chain-notes.txt").exists(), "no chain file");
}

/// transformers prefers `model.safetensors` to the files in the index.
#[test]
fn a_saved_checkpoint_replaces_a_dense_one() {
    let dir = tempfile::tempdir().unwrap();
    let of_user = ["model.safetensors.backup", "my-model.safetensors", "model-v1-of-2.safetensors"];
    let stale = [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    for name in of_user.iter().chain(&stale) {
        std::fs::write(dir.path().join(name), "old").unwrap();
    }
    let weights = trainer(llama, recipe(1), 1).weights().unwrap();
    save::save(dir.path(), &weights, DType::F32).unwrap();
    for name in stale {
        assert!(!dir.path().join(name).exists(), "{name} is left");
    }
    for name in of_user.iter().chain(&["model-chain-00001-of-00001.safetensors"]) {
        assert!(dir.path().join(name).exists(), "{name} is removed");
    }
}
