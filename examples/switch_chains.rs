//! One conversation, each turn at another chain count:
//! `cargo run --example switch_chains -- models/tiny-colm-air`
//!
//! With CoLM-Air the cache holds chain 1's keys and values, which serve every k: only what is new in a
//! turn is computed. With plain CoLM a change of k computes the conversation anew. (The cache keeps
//! whole blocks of tokens, so the last few of a turn are computed again either way.)

use anyhow::{Context, Result};
use colm::{Engine, EngineOptions, Message, Prompt, Request};

const QUESTIONS: [&str; 4] = [
    "My name is Nina. My friend is Omar. My favourite colour is purple. Who is my friend?",
    "What is 27 + 58?",
    "Which month is 6 months before July?",
    "What is the remainder of 47 divided by 6?",
];

#[tokio::main]
async fn main() -> Result<()> {
    let model = std::env::args().nth(1).context("usage: switch_chains MODEL")?;
    let engine = Engine::start(&EngineOptions::new(model)).await?;
    let mut conversation = Vec::new();
    for (turn, question) in QUESTIONS.into_iter().enumerate() {
        let chains = 1 + turn % engine.chains();
        conversation.push(Message::user(question));
        let before = engine.counts();
        let request = Request::greedy(Prompt::Chat(conversation.clone())).at(chains);
        let answer = engine.answer(request).await?;
        let prompt = engine.counts().since(before);
        println!("{question}\n  @{chains}: {}", answer.text);
        println!("  prompt: {} tokens computed, {} reused", prompt.prompt, prompt.reused);
        conversation.push(Message::assistant(answer.text));
    }
    Ok(())
}
