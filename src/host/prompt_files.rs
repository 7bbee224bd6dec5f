//! Converts the tokenizer, chat template and sampling defaults of a model folder to the types of the host.

use std::collections::HashMap;

use anyhow::Result;
use colm_prompt::PromptFolder;
use either::Either;
use mistralrs_core::ext::{BeginEndUnkPadTok, ChatTemplate, ChatTemplateValue, PromptFiles};
use mistralrs_core::ModelGenerationDefaults;

use super::token_env::token_env;

/// The prompt files for the engine, and for front ends of the host, which render conversations themselves.
pub fn prompt_files(folder: &PromptFolder) -> Result<PromptFiles> {
    let token = |name: &str| {
        folder.special_tokens.get(name).map(|text| BeginEndUnkPadTok(Either::Left(text.into())))
    };
    let mut chat_template = ChatTemplate::default();
    chat_template.chat_template = template_value(folder);
    chat_template.bos_token = token("bos_token");
    chat_template.eos_token = token("eos_token");
    chat_template.unk_token = token("unk_token");
    let defaults = &folder.sampling_defaults;
    let generation_defaults = ModelGenerationDefaults {
        temperature: defaults.temperature,
        top_k: defaults.top_k.map(|top_k| top_k as usize).filter(|&top_k| top_k > 0),
        top_p: defaults.top_p,
        min_p: defaults.min_p,
        repetition_penalty: defaults.repetition_penalty,
        ..ModelGenerationDefaults::default()
    };
    Ok(PromptFiles {
        tokenizer: folder.tokenizer.clone(),
        chat_template,
        eos_tokens: folder.eos_tokens.clone(),
        generation_defaults: Some(generation_defaults),
        tokens: token_env(folder)?,
    })
}

/// The chat template in the form of the host: a single template, or a list of named templates.
fn template_value(folder: &PromptFolder) -> Option<ChatTemplateValue> {
    let sources = &folder.chat_template_sources;
    let default = sources.get("default")?;
    let named = |(name, source): (&String, &String)| {
        HashMap::from([
            ("name".to_string(), name.clone()),
            ("template".to_string(), source.clone()),
        ])
    };
    Some(ChatTemplateValue(match sources.len() {
        1 => Either::Left(default.clone()),
        _ => Either::Right(sources.iter().map(named).collect()),
    }))
}
