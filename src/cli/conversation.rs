//! A conversation with streamed answers.

use std::future::Future;
use std::io::Write;

use anyhow::Result;
use colm::{ChainCount, Engine, Error, Message, Request, Sampling};
use futures::TryStreamExt;

use super::speed::Speed;

/// The messages so far, and the parameters of the next answer.
pub struct Conversation<'a> {
    pub engine: &'a Engine,
    /// The chain count of the next answer.
    pub chains: ChainCount,
    /// The maximum number of tokens of an answer.
    pub max_tokens: Option<usize>,
    pub sampling: Sampling,
    /// Whether the next prompt is plain text: the model continues it.
    pub raw: bool,
    pub messages: Vec<Message>,
}

impl Conversation<'_> {
    /// Streams the answer to `question` to `out`, until the answer ends or `stop` is ready.
    ///
    /// Adds the question and the answer to the conversation. A stopped answer is added as far as it was written. After
    /// an error, neither is added.
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
                Err(match error.downcast_ref() {
                    Some(Error::NoChatTemplate) => error.context("--raw sends plain text"),
                    _ => error,
                })
            }
        }
    }

    async fn answer(
        &self,
        out: &mut impl Write,
        stop: impl Future<Output = ()>,
    ) -> Result<(String, Speed)> {
        let mut request = match self.messages.last() {
            Some(prompt) if self.raw => Request::text(&prompt.content),
            _ => Request::chat(self.messages.clone()),
        };
        request = request.chains(self.chains);
        request.sampling = self.sampling.clone();
        request.max_tokens = self.max_tokens;
        let before = self.engine.counts();
        let mut text = String::new();
        let mut pieces = self.engine.stream(request).await?;
        tokio::pin!(stop);
        loop {
            // Dropping the stream stops the answer in the engine.
            let piece = tokio::select! {
                piece = pieces.try_next() => piece?,
                () = &mut stop => break,
            };
            let Some(piece) = piece else { break };
            out.write_all(piece.text.as_bytes())?;
            out.flush()?;
            text.push_str(&piece.text);
        }
        writeln!(out)?;
        // The engine measures the times, because this process may read the tokens later.
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
