//! One conversation, with another chain count in each turn:
//! `cargo run --example switch_chains -- models/tiny-colm-air`
//!
//! A CoLM-Air has keys and values of chain 1 only, which serve every k: each turn computes only what is new. A CoLM
//! computes the whole conversation again when k changes. (The prefix cache keeps whole blocks of 32 tokens, so in
//! both cases the last few tokens of a turn are computed again.)

use anyhow::{Context, Result};
use colm::{Engine, Message, Request};

const QUESTIONS: [&str; 4] = [
    "My name is Nina. My friend is Omar. My favourite colour is purple. Who is my friend?",
    "What is 27 + 58?",
    "Which month is 6 months before July?",
    "What is the remainder of 47 divided by 6?",
];

#[tokio::main]
async fn main() -> Result<()> {
    let model = std::env::args().nth(1).context("usage: switch_chains MODEL")?;
    let engine = Engine::builder(model).start().await?;
    let mut conversation = Vec::new();
    for (turn, question) in QUESTIONS.into_iter().enumerate() {
        let k = engine.chain_count(1 + turn % engine.loaded_chains().get())?;
        conversation.push(Message::user(question));
        let before = engine.counts();
        let request = Request::chat(conversation.clone()).chains(k);
        let answer = engine.answer(request).await?;
        let prompt = engine.counts().since(before);
        println!("{question}\n  @{k}: {}", answer.text);
        println!("  prompt: {} tokens computed, {} reused", prompt.prompt, prompt.reused);
        conversation.push(Message::assistant(answer.text));
    }
    Ok(())
}
