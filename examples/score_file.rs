//! How well each chain count predicts a text, in nats per token:
//! `cargo run --example score_file -- models/tiny-colm-air README.md`

use anyhow::{ensure, Context, Result};
use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use colm::{Engine, EngineOptions};

#[tokio::main]
async fn main() -> Result<()> {
    let usage = "usage: score_file MODEL FILE";
    let [model, file]: [String; 2] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().ok().context(usage)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;

    // Tokens found in the prefix cache are not computed and have no logits.
    let options = EngineOptions { prefix_cache: false, ..EngineOptions::new(model) };
    let engine = Engine::start(&options).await?;
    let mut tokens = engine.tokenize(&text).await?;
    tokens.truncate(engine.max_tokens());
    ensure!(tokens.len() > 1, "{file} has {} tokens; expected at least 2", tokens.len());

    let next = Tensor::new(&tokens[1..], &Device::Cpu)?;
    println!("the first {} tokens of {file}", tokens.len());
    for k in 1..=engine.chains() {
        let logits = engine.logits(tokens.clone(), k).await?;
        let nll = cross_entropy(&logits.narrow(0, 0, tokens.len() - 1)?, &next)?;
        println!("k = {k}: {:.5} nats per token", nll.to_scalar::<f32>()?);
    }
    Ok(())
}
