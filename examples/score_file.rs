//! How well each chain count predicts a text, in nats per token:
//! `cargo run --example score_file -- models/tiny-colm-air README.md`

use anyhow::{ensure, Context, Result};
use colm::Engine;

#[tokio::main]
async fn main() -> Result<()> {
    let usage = "usage: score_file MODEL FILE";
    let [model, file]: [String; 2] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().ok().context(usage)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;

    let engine = Engine::builder(model).start().await?;
    let mut tokens = engine.tokenize(&text).await?;
    tokens.truncate(engine.max_tokens());
    ensure!(tokens.len() > 1, "{file} has {} tokens; expected at least 2", tokens.len());

    println!("the first {} tokens of {file}", tokens.len());
    for k in engine.chain_counts() {
        let logprobs = engine.score(tokens.clone(), k).await?;
        let nll = -logprobs.iter().sum::<f64>() / logprobs.len() as f64;
        println!("k = {k}: {nll:.5} nats per token");
    }
    Ok(())
}
