//! A conversation with the model, answered piece by piece.

use std::future::Future;
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use colm::{Engine, Message, Prompt, Request};
use mistralrs_core::SamplingParams;

use super::speed::Speed;

/// What was said so far, and how to go on.
pub struct Conversation<'a> {
    pub engine: &'a Engine,
    /// The chain count of the next answer.
    pub chains: usize,
    pub sampling: SamplingParams,
    pub messages: Vec<Message>,
}

impl Conversation<'_> {
    /// Writes the answer to `question` as it comes, until it ends or `stop` is ready.
    ///
    /// Both stay part of the conversation, a stopped answer as far as it was written; after an error
    /// neither does.
    pub async fn ask(
        &mut self,
        question: String,
        out: &mut impl Write,
        stop: impl Future<Output = ()>,
    ) -> Result<Speed> {
        self.messages.push(Message::user(question));
        match self.answer(out, stop).await {
            Ok((text, speed)) => {
                self.messages.push(Message::assistant(text));
                Ok(speed)
            }
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }

    async fn answer(
        &self,
        out: &mut impl Write,
        stop: impl Future<Output = ()>,
    ) -> Result<(String, Speed)> {
        let request = Request {
            prompt: Prompt::Chat(self.messages.clone()),
            chains: Some(self.chains),
            sampling: self.sampling.clone(),
        };
        let (before, start) = (self.engine.counts(), Instant::now());
        let mut first = None;
        let mut text = String::new();
        let mut pieces = self.engine.stream(request).await?;
        tokio::pin!(stop);
        loop {
            // The engine ends an answer whose stream is dropped.
            let piece = tokio::select! {
                piece = pieces.next() => piece?,
                () = &mut stop => break,
            };
            let Some(piece) = piece else {
                first.context("the engine closed without an answer")?;
                break;
            };
            first.get_or_insert_with(Instant::now);
            out.write_all(piece.text.as_bytes())?;
            out.flush()?;
            text.push_str(&piece.text);
            if piece.finish_reason.is_some() {
                break;
            }
        }
        let end = Instant::now();
        writeln!(out)?;
        let counts = self.engine.counts().since(before);
        let speed = Speed {
            counts,
            answer_tokens: first.map_or(0, |_| counts.decoded + 1),
            prompt_time: first.unwrap_or(end) - start,
            decode_time: end - first.unwrap_or(end),
        };
        Ok((text, speed))
    }
}
