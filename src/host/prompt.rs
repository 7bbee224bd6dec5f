//! From the prompt of a request to tokens, off the engine's thread.

use std::sync::Arc;

use colm_checkpoint::panics::catch;
use colm_prompt::{Conversation, PromptFolder, RenderError};
use tokio::sync::Semaphore;

use super::vocabulary::Vocabulary;
use crate::error::{first_line, Error, Result};
use crate::request::{conversation, Prompt};

/// In bytes. Longer texts are tokenized one at a time, because they take seconds of a core.
const LONG_TEXT: usize = 256 * 1024;

/// How many shorter texts are rendered or tokenized at a time. Work on a thread cannot be canceled: without this
/// limit, clients that disconnect right away could start any number of tasks.
const MAX_SHORT_TEXTS: usize = 8;

/// The lowest limit for the bytes of a prompt, for models with a short context.
const LEAST_BYTES: usize = 64 * 1024;

/// Renders and tokenizes prompts.
#[derive(Clone)]
pub struct Prompts {
    pub(super) vocabulary: Arc<Vocabulary>,
    folder: Arc<PromptFolder>,
    longest: usize,
    short_texts: Arc<Semaphore>,
    long_texts: Arc<Semaphore>,
}

impl Prompts {
    /// For a model that holds sequences of `longest` tokens.
    pub(super) fn new(vocabulary: Vocabulary, folder: Arc<PromptFolder>, longest: usize) -> Self {
        let [short_texts, long_texts] =
            [MAX_SHORT_TEXTS, 1].map(|permits| Arc::new(Semaphore::new(permits)));
        Self { vocabulary: Arc::new(vocabulary), folder, longest, short_texts, long_texts }
    }

    /// The most bytes a prompt can have.
    pub fn most_bytes(&self) -> usize {
        self.longest.saturating_mul(self.vocabulary.longest_token()).max(LEAST_BYTES)
    }

    /// The tokens of `prompt`: at least one, at most the longest sequence, all of them in the vocabulary.
    pub async fn tokens(&self, prompt: Prompt) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text(text) => self.tokenize(text).await?,
            Prompt::Chat(messages) => self.conversation(conversation(messages)).await?,
            Prompt::Conversation(conversation) => self.conversation(*conversation).await?,
        };
        let (count, longest) = (tokens.len(), self.longest);
        if count == 0 {
            return Err(Error::EmptyPrompt);
        }
        if count > longest {
            return Err(Error::ContextLength { tokens: count, longest });
        }
        self.vocabulary.check(tokens.iter().copied())?;
        Ok(tokens)
    }

    /// The tokens of `text`, with the special tokens that the tokenizer adds to every text.
    pub async fn tokenize(&self, text: String) -> Result<Vec<u32>> {
        self.encode(text, true).await
    }

    /// As [`Self::tokenize`], for a text of any length.
    pub async fn tokenize_unlimited(&self, text: String) -> Result<Vec<u32>> {
        self.encode_any(text, true).await
    }

    /// The tokens of a rendered conversation. Its special tokens are those that the template writes.
    async fn conversation(&self, conversation: Conversation) -> Result<Vec<u32>> {
        let folder = self.folder.clone();
        let rendered = blocking(&self.short_texts, move || folder.render(conversation)).await;
        let rendered = rendered.map_err(Error::ChatTemplate)?;
        let rendered = rendered.ok_or(Error::NoChatTemplate)?;
        let text = rendered.map_err(|error| match error {
            RenderError::TooLong(_) => self.too_long(),
            error => Error::ChatTemplate(error.to_string()),
        })?;
        self.encode(text, false).await
    }

    async fn encode(&self, text: String, add_special: bool) -> Result<Vec<u32>> {
        if text.len() > self.most_bytes() {
            return Err(self.too_long());
        }
        self.encode_any(text, add_special).await
    }

    fn too_long(&self) -> Error {
        Error::TextLength { most: self.most_bytes(), longest: self.longest }
    }

    async fn encode_any(&self, text: String, add_special: bool) -> Result<Vec<u32>> {
        let permits = if text.len() > LONG_TEXT { &self.long_texts } else { &self.short_texts };
        let vocabulary = self.vocabulary.clone();
        let encoded = blocking(permits, move || vocabulary.encode(&text, add_special)).await;
        encoded.map_err(Error::Tokenizer)?
    }
}

/// The result of `work`, done on a thread for blocking work; an error if it panics. The thread keeps its permit until the
/// work ends, even if the caller has stopped waiting.
async fn blocking<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let permit = permits.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let work = move || {
        let done = catch(work);
        drop(permit);
        done
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| first_line(&error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients that leave at once do not start work without limit.
    #[tokio::test]
    async fn work_keeps_its_permit_when_the_caller_stops_waiting() {
        let permits = Arc::new(Semaphore::new(1));
        let (started, begins) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let caller = tokio::spawn({
            let permits = permits.clone();
            async move {
                let work = move || {
                    started.send(()).unwrap();
                    released.recv()
                };
                blocking(&permits, work).await
            }
        });
        begins.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(permits.available_permits(), 0);
        release.send(()).unwrap();
        drop(permits.acquire().await.unwrap());
    }
}
