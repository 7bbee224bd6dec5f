//! Streams the answer to a question at a given chain count:
//! `cargo run --example stream_chat -- models/tiny-colm-air 2 "Sort 93 3 71 18."`

use std::io::{stdout, Write};

use anyhow::{Context, Result};
use colm::{Engine, Message, Request};
use futures::TryStreamExt;

#[tokio::main]
async fn main() -> Result<()> {
    let usage = "usage: stream_chat MODEL CHAINS QUESTION";
    let [model, chains, question]: [String; 3] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().ok().context(usage)?;
    let chains = chains.parse().with_context(|| format!("CHAINS is {chains}; {usage}"))?;

    let engine = Engine::builder(model).start().await?;
    let request = Request::chat([Message::user(question)]).chains(engine.chain_count(chains)?);
    let mut pieces = engine.stream(request).await?;
    while let Some(piece) = pieces.try_next().await? {
        print!("{}", piece.text);
        stdout().flush()?;
        if let Some(reason) = piece.finish_reason {
            println!(" [{reason}]");
            break;
        }
    }
    Ok(())
}
