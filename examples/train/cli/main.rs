//! `cargo run --release --example train -- --help`

mod arguments;
mod log;
mod outputs;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use candle_core::DType;
use clap::Parser;
use colm_train::card::Card;
use colm_train::chain_model::ChainModel;
use colm_train::data::Dialogue;
use colm_train::evaluate::{evaluate, held_out_of, Evaluation};
use colm_train::save;
use colm_train::stale_files;
use colm_train::train::Trainer;
use colm_train::weights::Weights;
use indicatif::{ProgressBar, ProgressStyle};

use arguments::{Arguments, Start};
use log::Log;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // Threads work on separate micro-batches; matrix products run on one thread each.
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    let Start { weights, chat, dtype } = arguments.start()?;
    let recipe = arguments.recipe(&weights.config)?;
    println!("{} weights, vocabulary of {}", weights.count(), weights.config.file.vocab_size);
    let mut trainer = Trainer::new(weights, chat, recipe, threads)?;
    if arguments.resume {
        trainer.resume(&arguments.state())?;
    }
    train(&mut trainer, &arguments, threads)?;
    finish(&trainer, dtype, &arguments, threads)
}

fn train(trainer: &mut Trainer, arguments: &Arguments, threads: usize) -> Result<()> {
    let sample = held_out(trainer, 40);
    let state = arguments.state();
    let parents = [Some(state.as_path()), arguments.log.as_deref()];
    for parent in parents.into_iter().flatten().filter_map(Path::parent) {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("creating {}", parent.display()))?;
    }
    if !arguments.resume {
        // Otherwise --resume would continue an earlier run if this one ended before its first save.
        stale_files::remove(&state)?;
    }
    let chains = trainer.config().chains.count();
    let log = arguments.log.as_ref();
    let mut log = log.map(|path| Log::open(path, chains, trainer.steps_done())).transpose()?;
    let steps = trainer.recipe().steps;
    let progress = progress(steps, trainer.steps_done())?;
    while trainer.steps_done() < steps {
        let report = trainer.step()?;
        let done = trainer.steps_done();
        if let Some(log) = &mut log {
            log.add(done - 1, &report)?;
        }
        progress.set_message(format!("loss {}", decimals(&report.losses)));
        progress.inc(1);
        if done.is_multiple_of(arguments.every) || done == steps {
            trainer.save_state(&state)?;
            let evaluation = evaluate(trainer.model(), trainer.chat(), &sample, threads)?;
            progress.suspend(|| {
                println!(
                    "step {done}: loss {}, gradient norm {:.2}, held out: loss {}, exact {}",
                    decimals(&report.losses),
                    report.gradient_norm,
                    decimals(&evaluation.loss()),
                    percent(&evaluation.accuracy()),
                );
            });
        }
    }
    progress.finish();
    Ok(())
}

fn progress(steps: usize, done: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} eta {eta} {msg}")?;
    let progress = ProgressBar::new(steps as u64).with_style(style).with_position(done as u64);
    progress.reset_eta();
    progress.enable_steady_tick(Duration::from_secs(1));
    Ok(progress)
}

fn held_out(trainer: &Trainer, per_task: usize) -> Vec<Dialogue> {
    held_out_of(&trainer.recipe().tasks, trainer.recipe().seed, per_task)
}

/// Writes the checkpoint, evaluates the stored weights, and writes eval.json and the model card.
fn finish(trainer: &Trainer, dtype: DType, arguments: &Arguments, threads: usize) -> Result<()> {
    let dir = &arguments.out;
    save::save(dir, &trainer.weights()?, dtype)?;
    trainer.chat().save(dir, trainer.config().file.max_position_embeddings)?;
    let (stored, _) = Weights::read(dir)?;
    let model = ChainModel::new(&stored.config, &stored.blocks)?;
    let questions = held_out(trainer, arguments.held_out);
    let evaluation = evaluate(&model, trainer.chat(), &questions, threads)?;
    save::write_json(dir, "eval.json", &evaluation)?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let base = arguments.from.as_deref().and_then(name);
    let card = Card {
        name: &name(dir).unwrap_or_default(),
        config: trainer.config(),
        recipe: trainer.recipe(),
        base: base.as_deref(),
        evaluation: &evaluation,
        dtype: dtype.as_str(),
    };
    let readme = dir.join("README.md");
    std::fs::write(&readme, card.text())
        .with_context(|| format!("writing {}", readme.display()))?;
    report(&evaluation);
    stale_files::remove(&arguments.state())
}

fn report(evaluation: &Evaluation) {
    println!("held out, exact at k = 1, 2, ..: {}", percent(&evaluation.accuracy()));
    for (task, score) in &evaluation.tasks {
        println!("{:>10} {}", task.name(), percent(&score.accuracy()));
    }
}

fn decimals(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(" ")
}

fn percent(shares: &[f64]) -> String {
    shares.iter().map(|share| format!("{:.1}", 100. * share)).collect::<Vec<_>>().join(" ")
}
