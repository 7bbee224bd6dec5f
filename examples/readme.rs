//! One question, answered at every chain count.

use colm::{Engine, Message, Request};

#[tokio::main]
async fn main() -> colm::Result<()> {
    let engine = Engine::builder("models/tiny-colm-air").start().await?;
    let question = [Message::user("Which month is 6 months before July?")];
    for k in engine.chain_counts() {
        let answer = engine.answer(Request::chat(question.clone()).chains(k)).await?;
        println!("k = {k}: {}", answer.text);
    }
    Ok(())
}
