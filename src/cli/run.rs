//! `colm run`: a chat in the terminal, or one answer.

use std::future::pending;

use anyhow::{Context, Result};
use clap::Args;
use colm::{parse_chain_count, ChainCount, Sampling, SamplingDefaults};
use console::style;

use super::conversation::Conversation;
use super::lines::Lines;
use super::load::{at_least_1, GenerationConfigArgs, LoadArgs};
use super::output::{in_words, tell, Stdout, StdoutError};
use super::slash::{parse_slash, Slash, HELP};
use super::speed::Speed;

/// Chat in the terminal, or give one answer.
///
/// Without -i, every line of stdin is a question; /help lists what else a line can be. In a terminal the lines are
/// one conversation, and ctrl-c stops an answer. From a pipe or a file each line is answered by itself, unless
/// --conversation is given. Answers go to stdout; tokens and speeds, after each answer, to stderr.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Answer with the model's first K chains [default: all that are loaded].
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    chains: Option<String>,
    /// Answer PROMPT once and exit.
    #[arg(short = 'i', long = "prompt", value_name = "PROMPT")]
    prompt: Option<String>,
    /// Make one conversation of the lines of a pipe or a file, as in a terminal.
    #[arg(long, conflicts_with = "prompt")]
    conversation: bool,
    /// Sampling temperature; 0 is greedy and deterministic [default: that of generation_config.json, or 0].
    #[arg(long, value_parser = temperature, allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// The most tokens of an answer [default: what fits the model's context].
    #[arg(long, value_name = "N", value_parser = at_least_1)]
    max_tokens: Option<usize>,
    #[command(flatten)]
    generation: GenerationConfigArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm run -m models/tiny-colm-air
  colm run -m models/tiny-colm-air --chains 1 --max-tokens 64 -i 'Tell me a story.'
  colm run -m models/tiny-colm-air --temperature 0.8 < questions.txt > answers.txt";

/// Answers until there is no more question.
pub async fn run(args: RunArgs) -> Result<()> {
    let engine = args.generation.engine(&args.load).await?;
    let chains = match &args.chains {
        Some(text) => parse_chain_count(text, engine.loaded_chains()).context("--chains")?,
        None => engine.loaded_chains(),
    };
    let sampling = sampling(args.temperature, engine.sampling_defaults());
    let (max_tokens, messages) = (args.max_tokens, Vec::new());
    let conversation = Conversation { engine: &engine, chains, max_tokens, sampling, messages };
    match args.prompt {
        Some(prompt) => one_answer(conversation, prompt).await,
        None => chat(conversation, args.conversation).await,
    }
}

async fn one_answer(mut conversation: Conversation<'_>, prompt: String) -> Result<()> {
    let speed = conversation.ask(prompt, &mut Stdout, ctrl_c()).await?;
    note(&at_chains(&speed, conversation.chains));
    Ok(())
}

/// Answers the lines of stdin. Those of a person are one conversation; others only if `one_conversation`.
async fn chat(mut conversation: Conversation<'_>, one_conversation: bool) -> Result<()> {
    let mut lines = Lines::of_stdin()?;
    let mut total = Speed::default();
    let one_conversation = one_conversation || lines.terminal();
    if lines.terminal() {
        note(&format!("{}: /help lists the commands", conversation.engine.name()));
    }
    loop {
        let prompt = format!("k={}> ", conversation.chains);
        let Some(line) = tokio::task::block_in_place(|| lines.next(&prompt))? else { break };
        if line.trim().is_empty() {
            continue;
        }
        let done = match parse_slash(&line) {
            Some(Ok(Slash::Exit)) => break,
            Some(Ok(command)) => obey(command, &mut conversation, &total),
            Some(Err(unknown)) => Err(unknown.into()),
            None => {
                say(line, &mut conversation, &mut total, lines.terminal(), one_conversation).await
            }
        };
        match done {
            // A person corrects the line; a script must not go on as if it had worked.
            Err(error) if lines.terminal() && StdoutError::of(&error).is_none() => {
                tell(in_words(&error))
            }
            done => done?,
        }
        if !one_conversation {
            conversation.messages.clear();
        }
    }
    note(&format!("in all: {total}"));
    Ok(())
}

fn obey(command: Slash, conversation: &mut Conversation<'_>, total: &Speed) -> Result<()> {
    match command {
        Slash::Chains(text) => {
            let loaded = conversation.engine.loaded_chains();
            conversation.chains = parse_chain_count(&text, loaded).context("/chains")?;
        }
        Slash::Stats => note(&format!("in all: {total}")),
        Slash::Reset => conversation.messages.clear(),
        Slash::Help => note(HELP),
        Slash::Exit => (),
    }
    Ok(())
}

async fn say(
    line: String,
    conversation: &mut Conversation<'_>,
    total: &mut Speed,
    terminal: bool,
    one_conversation: bool,
) -> Result<()> {
    let answer = if terminal {
        conversation.ask(line, &mut Stdout, ctrl_c()).await
    } else {
        // Ctrl-C ends a process that reads from a pipe, as it ends any other.
        conversation.ask(line, &mut Stdout, pending()).await
    };
    let speed = answer.map_err(|error| match StdoutError::of(&error) {
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
        tracing::warn!("ctrl-c does not stop answers: {error}");
        pending().await
    }
}

fn at_chains(speed: &Speed, chains: ChainCount) -> String {
    format!("k = {chains}: {speed}")
}

/// Beside the answers, dim.
fn note(text: &str) {
    tell(style(text).for_stderr().dim());
}

/// The sampling parameters; `defaults`, those of the model, apply to what the options leave out.
fn sampling(temperature: Option<f64>, defaults: &SamplingDefaults) -> Sampling {
    let mut sampling = Sampling::default();
    sampling.temperature = temperature.or(defaults.temperature).unwrap_or(0.);
    sampling.top_p = defaults.top_p;
    sampling.top_k = defaults.top_k.map(|top_k| top_k as usize).filter(|&top_k| top_k > 0);
    sampling.min_p = defaults.min_p;
    sampling.repetition_penalty = defaults.repetition_penalty;
    sampling
}

fn temperature(value: &str) -> Result<f64, String> {
    match value.parse() {
        Ok(temperature) if (0. ..f64::INFINITY).contains(&temperature) => Ok(temperature),
        _ => Err("expected a number of at least 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_greedy_unless_the_model_or_the_user_says_otherwise() {
        let defaults = SamplingDefaults::default();
        assert_eq!(sampling(None, &defaults), Sampling::default());
        assert_eq!(sampling(None, &defaults).temperature, 0.);
        assert_eq!(sampling(Some(0.7), &defaults).temperature, 0.7);
    }

    #[test]
    fn the_defaults_of_the_model_apply_to_what_is_left_out() {
        let defaults = SamplingDefaults {
            temperature: Some(0.6),
            top_p: Some(0.9),
            top_k: Some(0),
            repetition_penalty: Some(1.1),
            ..SamplingDefaults::default()
        };
        let left_out = sampling(None, &defaults);
        assert_eq!((left_out.temperature, left_out.top_p), (0.6, Some(0.9)));
        assert_eq!((left_out.top_k, left_out.repetition_penalty), (None, Some(1.1)));
        assert_eq!(sampling(Some(0.7), &defaults).temperature, 0.7);
        assert_eq!(sampling(Some(0.), &defaults).temperature, 0.);
    }

    #[test]
    fn a_temperature_is_a_number_of_at_least_0() {
        assert_eq!(temperature("0.5"), Ok(0.5));
        for refused in ["-1", "NaN", "inf", "warm", ""] {
            assert!(temperature(refused).is_err(), "{refused}");
        }
    }
}
