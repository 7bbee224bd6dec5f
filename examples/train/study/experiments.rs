//! The runs of the study. Runs of one function build on each other. The functions may run at the same time: a run that
//! two of them need is trained by the one that comes first, and the other one waits for it.

use anyhow::{Context, Result};
use colm_checkpoint::Architecture;
use colm_train::cost::Cost;
use colm_train::parallel::in_parallel;
use colm_train::recipe::{Loss, Recipe};
use colm_train::weights::Weights;

use crate::run_folder::RunFolder;
use crate::setting::{CHAINS, GROWN, NEW_TASKS};

/// Trains all models that are not trained yet, `jobs` at a time.
pub fn run(runs: &RunFolder, seeds: u64, jobs: usize) -> Result<()> {
    type Experiment = fn(&RunFolder, u64) -> Result<()>;
    let all: [Experiment; 4] = [colm, air, dense, grow];
    let todo: Vec<_> = (0..seeds).flat_map(|seed| all.map(|run| (run, seed))).collect();
    in_parallel(jobs, &todo, |(run, seed)| run(runs, *seed))?;
    Ok(())
}

/// The name of a run.
pub fn name(model: &str, seed: u64) -> String {
    format!("{model}-{seed}")
}

/// A CoLM, trained at all k at once; then its last chain, trained on new tasks.
fn colm(runs: &RunFolder, seed: u64) -> Result<()> {
    let base = name("colm", seed);
    from_random(runs, &base, Architecture::Colm, CHAINS, runs.setting.recipe(seed, CHAINS))?;
    let recipe = Recipe {
        tasks: NEW_TASKS.to_vec(),
        loss: Loss::Last,
        frozen: CHAINS - 1,
        steps: runs.setting.steps / 3,
        warmup: runs.setting.steps / 36,
        ..runs.setting.recipe(data_seed(seed, 1), CHAINS)
    };
    runs.run(&name("tuned", seed), recipe, || Ok(Weights::read(&runs.checkpoint(&base))?.0))?;
    Ok(())
}

/// A CoLM-Air of the same shape.
fn air(runs: &RunFolder, seed: u64) -> Result<()> {
    let recipe = runs.setting.recipe(seed, CHAINS);
    from_random(runs, &name("air", seed), Architecture::ColmAir, CHAINS, recipe)
}

/// Dense Llamas of the sizes of the CoLM at every k, each at two learning rates, because the best rate depends on the
/// size.
fn dense(runs: &RunFolder, seed: u64) -> Result<()> {
    // The Llama for k = 1 comes last, so that `grow`, which begins with it, is rarely waited for.
    for k in (1..=CHAINS).rev() {
        dense_at(runs, seed, k)?;
        let full = runs.setting.recipe(seed, 1);
        let recipe = Recipe { learning_rate: full.learning_rate / 2., ..full };
        train_dense(runs, &name(&format!("dense{k}-half"), seed), k, recipe)?;
    }
    Ok(())
}

/// The Llama of the size of the CoLM at `k`. Chain expansion starts from that of k = 1.
fn dense_at(runs: &RunFolder, seed: u64, k: usize) -> Result<()> {
    let recipe = runs.setting.recipe(seed, 1);
    train_dense(runs, &name(&format!("dense{k}"), seed), k, recipe)
}

fn train_dense(runs: &RunFolder, name: &str, k: usize, recipe: Recipe) -> Result<()> {
    let seed = recipe.seed;
    runs.run(name, recipe, || {
        let config = runs.setting.dense(k, runs.chat()?.vocab_size())?;
        Weights::random(&config, seed)
    })?;
    Ok(())
}

/// Chain expansion: a Llama, then two more chains in turn, each trained with the chains before it frozen. For
/// comparison, the final shape from random weights with the same total of multiply-adds.
fn grow(runs: &RunFolder, seed: u64) -> Result<()> {
    dense_at(runs, seed, 1)?;
    let mut base = name("dense1", seed);
    let mut multiply_adds =
        runs.outcome(&base)?.context("the first stage is not finished")?.multiply_adds;
    for chains in 2..=GROWN {
        let recipe = Recipe {
            loss: Loss::Last,
            frozen: chains - 1,
            ..runs.setting.recipe(data_seed(seed, chains as u64), chains)
        };
        let grown = name(&format!("grown{chains}"), seed);
        let start = || Ok(Weights::read(&runs.expanded(&base, seed)?)?.0);
        multiply_adds += runs.run(&grown, recipe, start)?.multiply_adds;
        base = grown;
    }
    let steps = steps_for(runs, multiply_adds, seed)?;
    let recipe = Recipe { steps, warmup: steps / 12, ..runs.setting.recipe(seed, GROWN) };
    from_random(runs, &name("scratch", seed), Architecture::Colm, GROWN, recipe)
}

/// The number of steps that cost `multiply_adds` when all chains of the final shape are trained, with the tokens and
/// predictions per step of the first stage.
fn steps_for(runs: &RunFolder, multiply_adds: u64, seed: u64) -> Result<usize> {
    let first = runs.outcome(&name("dense1", seed))?.context("the first stage is not finished")?;
    let vocabulary = runs.chat()?.vocab_size();
    let of_first = Cost::of_training(&runs.setting.dense(1, vocabulary)?, &first.recipe);
    let grown = runs.setting.chained(Architecture::Colm, GROWN, vocabulary)?;
    let of_grown = Cost::of_training(&grown, &runs.setting.recipe(0, GROWN));
    let through_layers = of_first.per_token * first.tokens;
    let predictions = (first.multiply_adds - through_layers) / of_first.per_prediction;
    let all = of_grown.per_token * first.tokens + of_grown.per_prediction * predictions;
    let per_step = all as f64 / first.recipe.steps as f64;
    Ok((multiply_adds as f64 / per_step).round() as usize)
}

fn from_random(
    runs: &RunFolder,
    name: &str,
    architecture: Architecture,
    chains: usize,
    recipe: Recipe,
) -> Result<()> {
    let seed = recipe.seed;
    runs.run(name, recipe, || {
        let vocabulary = runs.chat()?.vocab_size();
        Weights::random(&runs.setting.chained(architecture, chains, vocabulary)?, seed)
    })?;
    Ok(())
}

/// A data seed that no other stage uses.
fn data_seed(seed: u64, stage: u64) -> u64 {
    1000 * stage + seed
}
