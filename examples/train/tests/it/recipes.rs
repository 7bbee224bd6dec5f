//! The recipes of the paper: what is trained on which loss, and what keeps its bits.

use std::path::PathBuf;

use colm_checkpoint::{Architecture, ChainTensor, ColmConfig, ConfigFile, TensorId};
use colm_train::card::Card;
use colm_train::cost::Cost;
use colm_train::evaluate::Evaluation;
use colm_train::paper_recipe::PaperRecipe;
use colm_train::recipe::{Loss, Recipe};
use colm_train::train::Trainer;

use crate::models::{bits, config, with_widths_and_head_norms, BOTH};
use crate::training::{recipe, steps, trainer};

/// Three chains with LM heads of their own.
fn untied(architecture: Architecture, vocabulary: usize) -> ColmConfig {
    let file = ConfigFile {
        tie_word_embeddings: false,
        ..with_widths_and_head_norms(architecture, vocabulary).file
    };
    ColmConfig::new(file).unwrap()
}

/// A short run with a recipe of the paper.
pub fn recipe_of(of: PaperRecipe, chains: usize, loss_weights: Option<Vec<f64>>) -> Recipe {
    Recipe {
        loss: of.loss(chains, loss_weights).unwrap(),
        frozen: of.frozen(chains).unwrap(),
        frozen_backbone: of.freezes_backbone(),
        ..recipe(chains)
    }
}

/// Runs three steps, and fails unless exactly the tensors that `trained` tells have changed.
fn assert_trains(trainer: &mut Trainer, name: &str, trained: impl Fn(&ChainTensor) -> bool) {
    let before = trainer.weights().unwrap();
    steps(trainer, 3);
    let after = trainer.weights().unwrap();
    for tensor in before.config.tensors(before.config.all_chains()) {
        let block = tensor.name();
        let changed = bits(&before.blocks[&block]) != bits(&after.blocks[&block]);
        assert_eq!(changed, trained(&tensor), "{name}: {block}");
    }
}

#[test]
fn a_recipe_trains_what_it_says_and_the_rest_keeps_its_bits() {
    for architecture in BOTH {
        for of in PaperRecipe::ALL {
            let mut trainer = trainer(|size| untied(architecture, size), recipe_of(of, 3, None), 1);
            assert_trains(&mut trainer, of.name(), |tensor| match of {
                PaperRecipe::Pretrain | PaperRecipe::Joint => true,
                PaperRecipe::ElasticHeads => tensor.id == TensorId::Head,
                PaperRecipe::Expansion => tensor.chain > 0,
                PaperRecipe::ChainTuning => tensor.chain == 2,
            });
        }
    }
}

#[test]
fn heads_of_frozen_chains_are_frozen_too() {
    let recipe = Recipe { frozen: 1, ..recipe_of(PaperRecipe::ElasticHeads, 3, None) };
    let mut trainer = trainer(|size| untied(Architecture::Colm, size), recipe, 1);
    assert_trains(&mut trainer, "frozen", |tensor| tensor.id == TensorId::Head && tensor.chain > 0);
}

#[test]
fn elastic_heads_lower_the_loss_at_every_k() {
    for architecture in BOTH {
        let recipe = recipe_of(PaperRecipe::ElasticHeads, 3, None);
        let losses = steps(&mut trainer(|size| untied(architecture, size), recipe, 2), 12);
        for (first, last) in losses[0].iter().zip(&losses[11]) {
            assert!(last < first, "{architecture:?}: {first} to {last}");
        }
    }
}

#[test]
fn a_resumed_run_of_elastic_heads_equals_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.safetensors");
    let start = || {
        let recipe = recipe_of(PaperRecipe::ElasticHeads, 3, None);
        trainer(|size| untied(Architecture::Colm, size), recipe, 1)
    };
    let (mut whole, mut stopped, mut resumed) = (start(), start(), start());
    let losses = steps(&mut whole, 4);
    steps(&mut stopped, 2);
    stopped.save_state(&state).unwrap();
    resumed.resume(&state).unwrap();
    assert_eq!(losses[2..], steps(&mut resumed, 2));
}

#[test]
fn heads_that_are_embeddings_cannot_be_trained_alone() {
    let recipe = recipe_of(PaperRecipe::ElasticHeads, 3, None);
    let refused = recipe.check(&config(Architecture::ColmAir, 300)).unwrap_err().to_string();
    assert!(refused.contains("tie_word_embeddings = true"), "{refused}");
    recipe.check(&config(Architecture::Colm, 300)).unwrap();
}

#[test]
fn losses_and_frozen_chains_depend_on_the_recipe() {
    use PaperRecipe::{ChainTuning, ElasticHeads, Expansion, Joint, Pretrain};
    for of in [Joint, ElasticHeads] {
        assert_eq!(of.loss(2, None).unwrap(), Loss::Joint(vec![1., 1.]));
        assert_eq!(of.loss(2, Some(vec![3., 1.])).unwrap(), Loss::Joint(vec![3., 1.]));
        assert_eq!(of.frozen(1).unwrap(), 0);
    }
    for of in [Pretrain, Expansion, ChainTuning] {
        assert_eq!(of.loss(2, None).unwrap(), Loss::Last);
        let refused = of.loss(2, Some(vec![3., 1.])).unwrap_err().to_string();
        let expected = format!("the recipe {}, whose loss is that at k = n; expected", of.name());
        assert!(refused.contains(&expected), "{refused}");
    }
    assert_eq!([Expansion, ChainTuning].map(|of| of.frozen(4).unwrap()), [1, 3]);
    for of in [Expansion, ChainTuning] {
        let refused = of.frozen(1).unwrap_err().to_string();
        assert!(refused.contains(of.name()) && refused.contains("expected several"), "{refused}");
    }
}

#[test]
fn both_trainers_have_the_same_recipes() {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../python/examples/train.py");
    let script = std::fs::read_to_string(script).unwrap();
    let (_, listed) = script.split_once("\nRECIPES = (").unwrap();
    let listed = listed.split_once(')').unwrap().0;
    let names: Vec<_> = listed.split(',').map(|name| name.trim().trim_matches('"')).collect();
    assert_eq!(names, PaperRecipe::ALL.map(PaperRecipe::name));
    for name in names {
        assert_eq!(PaperRecipe::named(name).map(PaperRecipe::name), Some(name));
    }
    assert_eq!(PaperRecipe::named("last"), None);
}

/// Multiply-adds of a token and of a prediction, relative to one forward pass of the same model.
#[test]
fn frozen_weights_cost_a_forward_pass_only() {
    let config = ColmConfig::new(ConfigFile {
        vocab_size: 10,
        hidden_size: 2,
        intermediate_size: 2,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: Some(2),
        head_dim: Some(2),
        max_position_embeddings: 8,
        ..ConfigFile::new(Architecture::Colm, vec![1, 1])
    })
    .unwrap();
    // Chain 1 and chain 2: q, k, v with 2 rows of 1 and 2 columns, o with 1 row of 2 and 4, gate, up and down with 1
    // row of 1 and 2; the head has 10 rows of 1 column in both.
    let (first, second, head) = (3 * 2 + 2 + 3, 3 * 4 + 4 + 3 * 2, 10);
    for (of, per_token, per_prediction) in [
        (PaperRecipe::Joint, 3 * (first + second), 3 * 2 * head),
        (PaperRecipe::Expansion, first + 3 * second, (1 + 3) * head),
        (PaperRecipe::ElasticHeads, first + second, 2 * 2 * head),
    ] {
        let found = Cost::of_training(&config, &recipe_of(of, 2, None));
        assert_eq!(found, Cost { per_token, per_prediction }, "{of:?}");
    }
}

#[test]
fn the_model_card_says_what_was_frozen() {
    let config = untied(Architecture::Colm, 300);
    let text = |recipe: &Recipe| {
        let card = Card {
            name: "a model",
            config: &config,
            recipe,
            base: Some("base"),
            evaluation: &Evaluation::default(),
            dtype: "f32",
        };
        card.text()
    };
    let of = |of| recipe_of(of, 3, None);
    for (recipe, expected) in [
        (of(PaperRecipe::Joint), "It starts from `base`. The loss"),
        (of(PaperRecipe::Expansion), "`base`, whose first chain is frozen. The loss"),
        (of(PaperRecipe::ChainTuning), "`base`, whose first 2 chains are frozen. The loss"),
        (of(PaperRecipe::ElasticHeads), "`base`, whose backbone is frozen: the LM heads alone"),
        (
            Recipe { frozen: 1, ..of(PaperRecipe::ElasticHeads) },
            "`base`, whose first chain is frozen. The backbone of the others is frozen too",
        ),
    ] {
        let text = text(&recipe);
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}
