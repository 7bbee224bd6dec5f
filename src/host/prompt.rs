//! From the prompt of a request to tokens, off the engine's thread.

use std::sync::Arc;

use colm_checkpoint::panics::catch;
use colm_prompt::{Conversation, PromptFolder};
use tokio::sync::Semaphore;

use super::vocabulary::Vocabulary;
use crate::error::{first_line, Error, Result};
use crate::request::{conversation, Prompt};

/// In bytes. Longer texts are tokenized one at a time, because they take seconds of a core.
const LONG_TEXT: usize = 256 * 1024;

/// The lowest limit for the bytes of a prompt, for models with a short context.
const LEAST_BYTES: usize = 64 * 1024;

/// Renders and tokenizes prompts.
#[derive(Clone)]
pub struct Prompts {
    pub(super) vocabulary: Arc<Vocabulary>,
    folder: Arc<PromptFolder>,
    longest: usize,
    long_texts: Arc<Semaphore>,
}

impl Prompts {
    /// For a model that holds sequences of `longest` tokens.
    pub(super) fn new(vocabulary: Vocabulary, folder: Arc<PromptFolder>, longest: usize) -> Self {
        let long_texts = Arc::new(Semaphore::new(1));
        Self { vocabulary: Arc::new(vocabulary), folder, longest, long_texts }
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
        let rendered = blocking(move || folder.render(conversation)).await;
        let rendered = rendered.map_err(Error::ChatTemplate)?;
        let rendered = rendered.ok_or(Error::NoChatTemplate)?;
        let text = rendered.map_err(|error| Error::ChatTemplate(error.to_string()))?;
        self.encode(text, false).await
    }

    async fn encode(&self, text: String, add_special: bool) -> Result<Vec<u32>> {
        let (bytes, most) = (text.len(), self.most_bytes());
        if bytes > most {
            return Err(Error::TextLength { bytes, most, longest: self.longest });
        }
        self.encode_any(text, add_special).await
    }

    async fn encode_any(&self, text: String, add_special: bool) -> Result<Vec<u32>> {
        let _permit = if text.len() > LONG_TEXT {
            Some(self.long_texts.acquire().await.map_err(Error::failed)?)
        } else {
            None
        };
        let vocabulary = self.vocabulary.clone();
        let encoded = blocking(move || vocabulary.encode(&text, add_special)).await;
        encoded.map_err(Error::Tokenizer)?
    }
}

/// The result of `work`, done on a thread for blocking work; an error if it panics.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(|| catch(work)).await;
    done.map_err(|error| first_line(&error.to_string()))?
}
