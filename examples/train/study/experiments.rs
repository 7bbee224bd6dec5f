//! The runs of the study. Those of one function build on each other; the functions are independent.

use anyhow::{Context, Result};
use colm_checkpoint::Architecture;
use colm_train::cost::Cost;
use colm_train::parallel::in_parallel;
use colm_train::recipe::{Loss, Recipe};
use colm_train::weights::Weights;

use crate::setting::{CHAINS, GROWN, NEW_TASKS};
use crate::workshop::Workshop;

/// Trains whatever is not trained yet, `jobs` at once.
pub fn run(workshop: &Workshop, seeds: u64, jobs: usize) -> Result<()> {
    type Experiment = fn(&Workshop, u64) -> Result<()>;
    let all: [Experiment; 4] = [colm, air, dense, grow];
    let todo: Vec<_> = (0..seeds).flat_map(|seed| all.map(|run| (run, seed))).collect();
    in_parallel(jobs, &todo, |(run, seed)| run(workshop, *seed))?;
    Ok(())
}

/// The name of a run.
pub fn name(model: &str, seed: u64) -> String {
    format!("{model}-{seed}")
}

/// A CoLM, all k at once; then its last chain on new tasks.
fn colm(workshop: &Workshop, seed: u64) -> Result<()> {
    let base = name("colm", seed);
    from_random(
        workshop,
        &base,
        Architecture::Colm,
        CHAINS,
        workshop.setting.recipe(seed, CHAINS),
    )?;
    let recipe = Recipe {
        tasks: NEW_TASKS.to_vec(),
        loss: Loss::Last,
        frozen: CHAINS - 1,
        steps: workshop.setting.steps / 3,
        warmup: workshop.setting.steps / 36,
        ..workshop.setting.recipe(fresh(seed, 1), CHAINS)
    };
    workshop
        .run(&name("tuned", seed), recipe, || Ok(Weights::read(&workshop.checkpoint(&base))?.0))?;
    Ok(())
}

/// A CoLM-Air of the same shape.
fn air(workshop: &Workshop, seed: u64) -> Result<()> {
    let recipe = workshop.setting.recipe(seed, CHAINS);
    from_random(workshop, &name("air", seed), Architecture::ColmAir, CHAINS, recipe)
}

/// Dense Llamas of the sizes of the CoLM at every k, each at two learning rates: what suits the CoLM
/// may not suit them.
fn dense(workshop: &Workshop, seed: u64) -> Result<()> {
    for k in 1..=CHAINS {
        dense_at(workshop, seed, k)?;
        let full = workshop.setting.recipe(seed, 1);
        let recipe = Recipe { rate: full.rate / 2., ..full };
        train_dense(workshop, &name(&format!("dense{k}-half"), seed), k, recipe)?;
    }
    Ok(())
}

/// The Llama of the size of the CoLM at `k`; that of k = 1 is where growing starts.
fn dense_at(workshop: &Workshop, seed: u64, k: usize) -> Result<()> {
    let recipe = workshop.setting.recipe(seed, 1);
    train_dense(workshop, &name(&format!("dense{k}"), seed), k, recipe)
}

fn train_dense(workshop: &Workshop, name: &str, k: usize, recipe: Recipe) -> Result<()> {
    let seed = recipe.seed;
    workshop.run(name, recipe, || {
        let config = workshop.setting.dense(k, workshop.chat()?.vocab_size())?;
        Weights::random(&config, seed)
    })?;
    Ok(())
}

/// Progressive scaling: a Llama, one more chain, one more chain, each trained with those before it
/// frozen. Then the final shape from random weights, for as many multiply-adds in all.
fn grow(workshop: &Workshop, seed: u64) -> Result<()> {
    dense_at(workshop, seed, 1)?;
    let mut base = name("dense1", seed);
    let mut spent = workshop.outcome(&base)?.context("no first stage")?.multiply_adds;
    for chains in 2..=GROWN {
        let recipe = Recipe {
            loss: Loss::Last,
            frozen: chains - 1,
            ..workshop.setting.recipe(fresh(seed, chains as u64), chains)
        };
        let grown = name(&format!("grown{chains}"), seed);
        let start = || Ok(Weights::read(&workshop.expanded(&base, seed)?)?.0);
        spent += workshop.run(&grown, recipe, start)?.multiply_adds;
        base = grown;
    }
    let steps = steps_for(workshop, spent, seed)?;
    let recipe = Recipe { steps, warmup: steps / 12, ..workshop.setting.recipe(seed, GROWN) };
    from_random(workshop, &name("scratch", seed), Architecture::Colm, GROWN, recipe)
}

/// How many steps of training all chains of the grown shape cost as much as `multiply_adds`: with as
/// many tokens and predictions per step as the first stage had.
fn steps_for(workshop: &Workshop, multiply_adds: u64, seed: u64) -> Result<usize> {
    let first = workshop.outcome(&name("dense1", seed))?.context("no first stage")?;
    let vocabulary = workshop.chat()?.vocab_size();
    let of_first = Cost::of_training(&workshop.setting.dense(1, vocabulary)?, 0);
    let grown = workshop.setting.chained(Architecture::Colm, GROWN, vocabulary)?;
    let of_grown = Cost::of_training(&grown, 0);
    let through_layers = of_first.per_token * first.tokens;
    let predictions = (first.multiply_adds - through_layers) / of_first.per_prediction;
    let all = of_grown.per_token * first.tokens + of_grown.per_prediction * predictions;
    let per_step = all as f64 / first.recipe.steps as f64;
    Ok((multiply_adds as f64 / per_step).round() as usize)
}

fn from_random(
    workshop: &Workshop,
    name: &str,
    architecture: Architecture,
    chains: usize,
    recipe: Recipe,
) -> Result<()> {
    let seed = recipe.seed;
    workshop.run(name, recipe, || {
        let vocabulary = workshop.chat()?.vocab_size();
        Weights::random(&workshop.setting.chained(architecture, chains, vocabulary)?, seed)
    })?;
    Ok(())
}

/// A seed of data that no earlier stage has seen.
fn fresh(seed: u64, stage: u64) -> u64 {
    1000 * stage + seed
}
