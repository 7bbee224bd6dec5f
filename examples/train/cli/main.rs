//! Trains the CoLM-Air in `models/tiny-colm-air`, on a CPU, from data generated from a seed:
//! `cargo run --release --example train`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::DType;
use clap::Parser;
use colm_checkpoint::{ColmConfig, ConfigFile};
use colm_train::card::card;
use colm_train::evaluate::{answer, evaluate, held_out, Evaluation};
use colm_train::parameters::stored_weights;
use colm_train::save;
use colm_train::tokenizer::Chat;
use colm_train::train::{Recipe, Trainer};
use indicatif::{ProgressBar, ProgressStyle};

/// Trains a tiny CoLM-Air on dialogues generated from a seed, and writes it as a checkpoint.
#[derive(Parser)]
struct Arguments {
    /// Where the checkpoint goes.
    #[arg(long, default_value = "models/tiny-colm-air")]
    out: PathBuf,
    /// Where the state of an unfinished training is kept.
    #[arg(long, default_value = "target/tiny-colm-air.state.safetensors")]
    state: PathBuf,
    /// Go on from the state instead of starting anew.
    #[arg(long)]
    resume: bool,
    /// Write the checkpoint from the state as it stands, without training further.
    #[arg(long)]
    only_save: bool,
    /// Optimizer steps in all; every part of the schedule is stretched in proportion.
    #[arg(long, default_value_t = STEPS)]
    steps: usize,
    /// Conversations per step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Seeds parameters and data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps between two saved states (and evaluations in short).
    #[arg(long, default_value_t = 250)]
    every: usize,
    /// Threads; the result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
}

/// Steps of the model that ships. Its schedule bends where they were chosen to, while it trained.
const STEPS: usize = 10_750;

/// The vocabulary is learned from this many conversations, and has at most this many entries.
const TOKENIZER_CONVERSATIONS: usize = 50_000;
const VOCAB_SIZE: usize = 768;

fn config(vocab_size: usize) -> Result<ColmConfig> {
    let file = ConfigFile {
        architectures: vec!["CoLMAirForCausalLM".into()],
        model_type: "colm_air".into(),
        chains: vec![1, 1, 1, 1],
        vocab_size,
        hidden_size: 256,
        intermediate_size: 640,
        num_hidden_layers: 5,
        num_attention_heads: 8,
        num_key_value_heads: Some(2),
        head_dim: Some(32),
        hidden_act: "silu".into(),
        max_position_embeddings: 1024,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.,
        rope_scaling: None,
        tie_word_embeddings: false,
        attention_bias: false,
        mlp_bias: false,
        other: Default::default(),
    };
    Ok(ColmConfig::new(file)?)
}

fn recipe(arguments: &Arguments) -> Recipe {
    let at = |step: usize| step * arguments.steps / STEPS;
    Recipe {
        seed: arguments.seed,
        steps: arguments.steps,
        lists_from: at(5500),
        tables_from: at(7250),
        batch: arguments.batch,
        rates: [
            (0, 0.),
            (300, 2e-3),
            (2500, 2e-3),
            (5500, 1.2e-3),
            (7250, 5e-4),
            (7500, 1e-3),
            (STEPS, 0.),
        ]
        .map(|(step, rate)| (at(step), rate))
        .to_vec(),
        focus: [(5499, 0.), (5500, 2.), (7249, 2.), (7250, 4.)]
            .map(|(step, power)| (at(step), power))
            .to_vec(),
        weight_decay: 0.05,
        clip: 1.,
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // Every thread has its own part of the batch; a matrix product is not split further.
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    let chat = Chat::train(arguments.seed, TOKENIZER_CONVERSATIONS, VOCAB_SIZE)?;
    let config = config(chat.vocab_size())?;
    println!("{} weights, vocabulary of {}", stored_weights(&config), chat.vocab_size());
    let recipe = recipe(&arguments);
    let mut trainer = Trainer::new(&config, chat, recipe, threads)?;
    if arguments.resume || arguments.only_save {
        trainer.resume(&arguments.state)?;
    }
    if !arguments.only_save {
        train(&mut trainer, &arguments, threads)?;
    }
    finish(&trainer, &arguments, threads)
}

fn train(trainer: &mut Trainer, arguments: &Arguments, threads: usize) -> Result<()> {
    let sample = held_out(arguments.seed, 40);
    let progress = ProgressBar::new(arguments.steps as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}")?)
        .with_position(trainer.steps_done() as u64);
    progress.enable_steady_tick(Duration::from_secs(1));
    if let Some(parent) = arguments.state.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("creating {}", parent.display()))?;
    }
    let start = Instant::now();
    while trainer.steps_done() < arguments.steps {
        let report = trainer.step()?;
        let losses: Vec<String> = report.losses.iter().map(|loss| format!("{loss:.3}")).collect();
        progress.set_message(format!("loss {}", losses.join(" ")));
        progress.inc(1);
        if trainer.steps_done().is_multiple_of(arguments.every)
            || trainer.steps_done() == arguments.steps
        {
            trainer.save_state(&arguments.state)?;
            let evaluation = evaluate(trainer.model(), trainer.chat(), &sample, threads)?;
            let line = format!(
                "step {} after {:.0} s: loss {}, rate {:.5}, norm {:.2}, exact {}",
                trainer.steps_done(),
                start.elapsed().as_secs_f64(),
                losses.join(" "),
                report.rate,
                report.gradient_norm,
                percent(&evaluation.accuracy()).join(" "),
            );
            progress.suspend(|| println!("{line}\n{}", by_task(&evaluation)));
        }
    }
    progress.finish();
    Ok(())
}

fn by_task(evaluation: &Evaluation) -> String {
    let tasks = evaluation.tasks.iter();
    tasks
        .map(|(task, score)| format!("{task:?} {}", percent(&score.accuracy()).join("/")))
        .collect::<Vec<_>>()
        .join("  ")
}

fn percent(shares: &[f64]) -> Vec<String> {
    shares.iter().map(|share| format!("{:.1}", 100. * share)).collect()
}

/// Writes the checkpoint, and measures what was written: read back, weights rounded.
fn finish(trainer: &Trainer, arguments: &Arguments, threads: usize) -> Result<()> {
    let config = trainer.model().config();
    let data = trainer.variables().data();
    let data = data.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    save::save(&arguments.out, config, DType::F16, |name| {
        data.get(name).map(|variable| variable.as_detached_tensor())
    })?;
    trainer.chat().save(&arguments.out, config.file.max_position_embeddings)?;
    let model = save::load(&arguments.out)?;
    let evaluation = evaluate(&model, trainer.chat(), &held_out(arguments.seed, 200), threads)?;
    save::write_json(&arguments.out, "eval.json", &evaluation)?;
    let readme = arguments.out.join("README.md");
    std::fs::write(&readme, card(config, trainer.recipe(), &evaluation))
        .with_context(|| format!("writing {}", readme.display()))?;
    println!("held out, exact: {}", percent(&evaluation.accuracy()).join(" "));
    println!("{}", by_task(&evaluation).replace("  ", "\n"));
    for prompt in ["What is 27 + 58?", "Sort 93 3 71 18.", "Who are you?"] {
        for k in 1..=config.chains.count() {
            println!("{prompt} @{k}: {}", answer(&model, trainer.chat(), prompt, k, 32)?);
        }
    }
    Ok(())
}
