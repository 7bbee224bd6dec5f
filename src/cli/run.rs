//! `colm run`: a chat in the terminal, or a single answer.

use std::future::pending;

use anyhow::{Context, Result};
use clap::Args;
use colm::{parse_chain_count, ChainCount, Sampling, SamplingDefaults};
use console::style;

use super::conversation::Conversation;
use super::greeting::greeting;
use super::lines::Lines;
use super::load::{flush_kv_store, DraftArgs, GenerationConfigArgs, KvStoreArgs, LoadArgs};
use super::output::{error_message, print_stderr, Stdout, StdoutError};
use super::parsers::{at_least_1, temperature};
use super::slash::{parse_slash, Slash, HELP};
use super::speed::Speed;

/// Chat in the terminal, or answer a single prompt.
///
/// Without -i, every line of stdin is a message or a command; /help lists the commands. In a terminal, all lines are
/// one conversation, and ctrl-c stops an answer. Each line of a pipe or a file is answered independently, unless
/// --conversation is given; a line that cannot be answered ends the program. Answers are written to stdout, token counts
/// and speeds to stderr.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Answer with the first K chains [default: all loaded chains].
    #[arg(long, value_name = "K")]
    chains: Option<String>,
    /// Answer PROMPT once and exit.
    #[arg(short = 'i', long = "prompt", value_name = "PROMPT")]
    prompt: Option<String>,
    /// Treat the lines of a pipe or a file as one conversation, as in a terminal.
    #[arg(long, conflicts_with = "prompt")]
    conversation: bool,
    /// Continue each prompt as plain text, without the chat template. For models that are not trained to chat.
    #[arg(long, conflicts_with = "conversation")]
    raw: bool,
    /// Sampling temperature; 0 is greedy [default: from generation_config.json, else 0].
    #[arg(long, value_parser = temperature)]
    temperature: Option<f64>,
    /// Maximum number of tokens of an answer [default: as many as fit the context].
    #[arg(long, value_name = "N", value_parser = at_least_1)]
    max_tokens: Option<usize>,
    #[command(flatten)]
    generation: GenerationConfigArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    kv_store: KvStoreArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm run -m models/tiny-colm-air
  colm run -m models/tiny-colm-air --chains 1 -i 'What is 27 + 58?'
  colm run -m models/tiny-colm-air --raw --max-tokens 64 -i 'Once upon a time'
  colm run -m models/tiny-colm-air --temperature 0.8 < questions.txt > answers.txt";

/// Answers the prompt, or the lines of stdin until they end.
pub async fn run(args: RunArgs) -> Result<()> {
    let builder = args.load.builder().max_drafts(args.draft.max_drafts);
    let builder = builder.kv_store(args.kv_store.options()?);
    let engine = builder.generation_config(args.generation.is_used()).start().await?;
    let chains = match &args.chains {
        Some(text) => parse_chain_count(text, engine.loaded_chains()).context("--chains")?,
        None => engine.loaded_chains(),
    };
    let sampling = sampling(args.temperature, engine.sampling_defaults());
    let (max_tokens, messages) = (args.max_tokens, Vec::new());
    let raw = args.raw;
    let conversation =
        Conversation { engine: &engine, chains, max_tokens, sampling, raw, messages };
    let answered = match args.prompt {
        Some(prompt) => one_answer(conversation, prompt).await,
        None => chat(conversation, args.conversation, &args.load.model).await,
    };
    flush_kv_store(&engine).await;
    answered
}

async fn one_answer(mut conversation: Conversation<'_>, prompt: String) -> Result<()> {
    // ctrl-c ends the process with the signal, so that a shell can tell that the answer is not complete.
    let speed = conversation.ask(prompt, &mut Stdout, pending()).await?;
    note(&at_chains(&speed, conversation.chains));
    Ok(())
}

/// Answers the lines of stdin. The lines of a terminal are one conversation, others only if `one_conversation`. `model`
/// is the folder of the model or its id on the hub.
async fn chat(
    mut conversation: Conversation<'_>,
    one_conversation: bool,
    model: &str,
) -> Result<()> {
    let mut lines = Lines::from_stdin()?;
    let mut total = Speed::default();
    let one_conversation = one_conversation || lines.is_interactive() && !conversation.raw;
    if lines.is_interactive() {
        let Conversation { engine, chains, .. } = conversation;
        let of_model = engine.config().chains.count();
        note(&greeting(engine.name(), model, chains, engine.loaded_chains(), of_model));
    }
    loop {
        let prompt = format!("k={}> ", conversation.chains);
        let Some(line) = tokio::task::block_in_place(|| lines.next(&prompt))? else { break };
        if line.trim().is_empty() {
            continue;
        }
        let result = match parse_slash(&line) {
            Some(Ok(Slash::Exit)) => break,
            Some(Ok(command)) => run_command(command, &mut conversation, &total),
            Some(Err(unknown)) => Err(unknown.into()),
            None => {
                answer(
                    line,
                    &mut conversation,
                    &mut total,
                    lines.is_interactive(),
                    one_conversation,
                )
                .await
            }
        };
        match result {
            // A user can correct the line. A script must not continue after an error.
            Err(error) if lines.is_interactive() && StdoutError::find(&error).is_none() => {
                print_stderr(error_message(&error))
            }
            Err(error) => {
                return Err(match lines.name_of_last() {
                    Some(line) if StdoutError::find(&error).is_none() => error.context(line),
                    _ => error,
                });
            }
            Ok(()) => (),
        }
        if !one_conversation {
            conversation.messages.clear();
        }
    }
    note(&format!("total: {total}"));
    Ok(())
}

/// Runs a command of the chat.
fn run_command(command: Slash, conversation: &mut Conversation<'_>, total: &Speed) -> Result<()> {
    match command {
        Slash::Chains(text) => {
            let loaded = conversation.engine.loaded_chains();
            conversation.chains = parse_chain_count(&text, loaded).context("/chains")?;
        }
        Slash::Stats => note(&format!("total: {total}")),
        Slash::Reset => conversation.messages.clear(),
        Slash::Help => note(HELP),
        Slash::Exit => (),
    }
    Ok(())
}

/// Answers a line of the chat.
async fn answer(
    line: String,
    conversation: &mut Conversation<'_>,
    total: &mut Speed,
    terminal: bool,
    one_conversation: bool,
) -> Result<()> {
    let answer = if terminal {
        conversation.ask(line, &mut Stdout, ctrl_c()).await
    } else {
        // If stdin is a pipe, ctrl-c ends the process.
        conversation.ask(line, &mut Stdout, pending()).await
    };
    let speed = answer.map_err(|error| match StdoutError::find(&error) {
        Some(_) => error,
        None if one_conversation => error.context("no answer (/reset starts a new conversation)"),
        None => error.context("no answer"),
    })?;
    *total += speed;
    note(&at_chains(&speed, conversation.chains));
    Ok(())
}

async fn ctrl_c() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!("cannot handle ctrl-c, which will not stop answers: {error}");
        pending().await
    }
}

fn at_chains(speed: &Speed, chains: ChainCount) -> String {
    format!("k = {chains}: {speed}")
}

/// Writes a dimmed line to stderr.
fn note(text: &str) {
    print_stderr(style(text).for_stderr().dim());
}

/// The sampling parameters: the option, the defaults of the model, or greedy.
fn sampling(temperature: Option<f64>, defaults: &SamplingDefaults) -> Sampling {
    let mut sampling = Sampling::default();
    sampling.temperature = temperature.or(defaults.temperature).unwrap_or(0.);
    sampling.top_p = defaults.top_p;
    sampling.top_k = defaults.top_k.map(|top_k| top_k as usize).filter(|&top_k| top_k > 0);
    sampling.min_p = defaults.min_p;
    sampling.repetition_penalty = defaults.repetition_penalty;
    sampling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_greedy_by_default() {
        let defaults = SamplingDefaults::default();
        assert_eq!(sampling(None, &defaults), Sampling::default());
        assert_eq!(sampling(None, &defaults).temperature, 0.);
        assert_eq!(sampling(Some(0.7), &defaults).temperature, 0.7);
    }

    #[test]
    fn the_defaults_of_the_model_apply_to_omitted_options() {
        let defaults = SamplingDefaults {
            temperature: Some(0.6),
            top_p: Some(0.9),
            top_k: Some(0),
            repetition_penalty: Some(1.1),
            ..SamplingDefaults::default()
        };
        let omitted = sampling(None, &defaults);
        assert_eq!((omitted.temperature, omitted.top_p), (0.6, Some(0.9)));
        assert_eq!((omitted.top_k, omitted.repetition_penalty), (None, Some(1.1)));
        assert_eq!(sampling(Some(0.7), &defaults).temperature, 0.7);
        assert_eq!(sampling(Some(0.), &defaults).temperature, 0.);
    }
}
