//! A conversation with the model, answered piece by piece.

use std::future::Future;
use std::io::Write;

use anyhow::Result;
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
            sampling: self.sampling.clone(),
            ..Request::greedy(Prompt::Chat(self.messages.clone())).at(self.chains)
        };
        let before = self.engine.counts();
        let mut text = String::new();
        let mut pieces = self.engine.stream(request).await?;
        tokio::pin!(stop);
        loop {
            // The engine ends an answer whose stream is dropped.
            let piece = tokio::select! {
                piece = pieces.next() => piece?,
                () = &mut stop => break,
            };
            let Some(piece) = piece else { break };
            out.write_all(piece.text.as_bytes())?;
            out.flush()?;
            text.push_str(&piece.text);
        }
        writeln!(out)?;
        // The engine's own times: when its tokens were read says nothing of its speed.
        let usage = pieces.usage();
        let speed = Speed {
            counts: self.engine.counts().since(before),
            answer_tokens: usage.completion_tokens,
            prompt_time: usage.prompt_time,
            decode_time: usage.decode_time,
        };
        Ok((text, speed))
    }
}
