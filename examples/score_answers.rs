//! How well each chain count predicts the answers of dialogues, in nats per token:
//! `cargo run --example score_answers -- models/tiny-colm-air examples/held_out.tsv`
//!
//! Each line of the file has a prompt in the model's chat format, a tab, and the answer. Only tokens of answers are
//! scored: the models in `models/` are trained on answers alone, so their probabilities for the tokens of prompts or
//! other text mean nothing. `held_out.tsv` has questions that do not occur in the training data.

use anyhow::{ensure, Context, Result};
use colm::Engine;

#[tokio::main]
async fn main() -> Result<()> {
    let usage = "usage: score_answers MODEL FILE";
    let [model, file]: [String; 2] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().ok().context(usage)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;

    let engine = Engine::builder(model).start().await?;
    let mut dialogues = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{file}, line {}: expected PROMPT, a tab and ANSWER", index + 1);
        let (prompt, answer) = line.split_once('\t').with_context(place)?;
        let start = engine.tokenize(prompt).await?.len();
        let tokens = engine.tokenize(&format!("{prompt}{answer}")).await?;
        ensure!(0 < start && start < tokens.len(), place());
        dialogues.push((tokens, start));
    }
    ensure!(!dialogues.is_empty(), "{file} is empty");

    for k in engine.chain_counts() {
        let (mut sum, mut count) = (0., 0);
        for (tokens, start) in &dialogues {
            // The first token of the sequence has no log-probability.
            let logprobs = engine.score(tokens.clone(), k).await?;
            let answer = &logprobs[start - 1..];
            sum += answer.iter().sum::<f64>();
            count += answer.len();
        }
        println!("k = {k}: {:.5} nats per token", -sum / count as f64);
    }
    Ok(())
}
