//! A model folder: everything that prompts and the ends of answers depend on.

mod chat_templates;
mod eos;
mod generation_config;
mod prompt_folder;

pub use generation_config::SamplingDefaults;
pub use prompt_folder::{ModelFacts, PromptFolder};
