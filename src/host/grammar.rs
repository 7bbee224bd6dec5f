//! Grammars: what an answer must match.
//!
//! Clients write them, and a few hundred bytes can ask for hours or for gigabytes. So a grammar is measured, compiled
//! on a thread of its own with much stack, and tried on a few tokens: what is wrong with it becomes an error.

mod size;
mod special;
mod tool_call;
mod weight;

#[cfg(test)]
mod attacks;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use mistralrs_core::llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use mistralrs_core::llguidance::earley::lexerspec::LexerSpec;
use mistralrs_core::llguidance::panic_utils::catch_unwind;
use mistralrs_core::llguidance::toktrie::InferenceCapabilities;
use mistralrs_core::llguidance::{CancellationHandle, Logger, Matcher, ParserFactory};
use serde_json::{json, Value};
use thiserror::Error;
use tokio::sync::{oneshot, Semaphore};
use tokio::time::{timeout_at, Instant as Deadline};

use size::{at_most, embedded_schemas, Size};
pub use tool_call::tool_call;

/// A grammar of llguidance in its JSON form.
pub use mistralrs_core::llguidance::api::TopLevelGrammar as LlguidanceGrammar;

/// How many grammars are compiled at once.
const AT_ONCE: usize = 2;
/// For waiting and compiling.
const TIME: Duration = Duration::from_secs(5);
/// More than ten times what any grammar of the allowed size was seen to use. Unused, it takes no memory.
const STACK: usize = 256 << 20;
/// The most grammars in one.
const MAX_GRAMMARS: usize = 100;
/// The most bytes that follow from each other: they are tokenized anew for each token.
const MAX_FORCED: usize = 32 << 10;
/// How many tokens a grammar is tried on.
const TRIAL: usize = 16;
/// For each of them.
const TRIAL_TIME: Duration = Duration::from_millis(500);

/// What an answer must match.
#[derive(Clone, Debug)]
pub enum Grammar {
    /// JSON of this schema.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// This regular expression, from beginning to end.
    Regex(String),
    /// This grammar in llguidance's variant of Lark.
    Lark(String),
    /// The first of these, with those it refers to. Their `max_tokens` is not looked at.
    Llguidance(Box<TopLevelGrammar>),
}

/// Why a grammar is not used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GrammarError {
    /// There is too much of something.
    #[error("the grammar has {found} {what}: expected at most {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there is, or how much was counted before counting ended.
        found: usize,
        /// The most there may be.
        limit: usize,
    },
    /// Too many objects and arrays are within each other.
    #[error("the schema has more than {limit} levels of nesting: expected at most {limit}")]
    TooDeep {
        /// The most there may be.
        limit: usize,
    },
    /// It was not compiled in time, or a token of it takes too long.
    #[error("{what} takes more than {} ms: expected a simpler grammar", limit.as_millis())]
    TookTooLong {
        /// What did.
        what: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// Other grammars were being compiled all the time.
    #[error("the server is busy compiling other grammars: expected to be asked again later")]
    Busy,
    /// It is no grammar, nothing matches it, or it asks for what is not supported.
    #[error("{0}")]
    Invalid(String),
}

impl Grammar {
    /// Its schemas and its texts.
    fn parts(&self) -> (Vec<&Value>, Vec<&str>) {
        match self {
            Self::JsonObject => (vec![], vec![]),
            Self::JsonSchema(schema) => (vec![schema], vec![]),
            Self::Regex(text) | Self::Lark(text) => (vec![], vec![text]),
            Self::Llguidance(all) => {
                let schemas = all.grammars.iter().filter_map(|one| one.json_schema.as_ref());
                let texts = all.grammars.iter().filter_map(|one| one.lark_grammar.as_deref());
                (schemas.collect(), texts.collect())
            }
        }
    }

    /// Fails if it is too large as it is written.
    fn measure(&self) -> Result<(), GrammarError> {
        if let Self::Llguidance(all) = self {
            at_most("grammars in it", all.grammars.len(), MAX_GRAMMARS)?;
        }
        let (schemas, texts) = self.parts();
        let mut size = Size::default();
        schemas.into_iter().try_for_each(|schema| size.schema(schema))?;
        texts.into_iter().try_for_each(|text| size.text(text))
    }

    /// Fails if too much would become of it.
    fn weigh(&self) -> Result<(), GrammarError> {
        let (schemas, texts) = self.parts();
        schemas.into_iter().try_for_each(weight::weigh)?;
        let mut size = Size::default();
        for text in texts {
            for schema in embedded_schemas(text)? {
                size.schema(&schema)?;
                weight::weigh(&schema)?;
            }
        }
        Ok(())
    }

    fn into_init(self) -> GrammarInit {
        GrammarInit::Serialized(match self {
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema),
            Self::JsonObject => TopLevelGrammar::from_json_schema(json!({"type": "object"})),
            Self::Regex(text) => TopLevelGrammar::from_regex(&text),
            Self::Lark(text) => TopLevelGrammar::from_lark(text),
            Self::Llguidance(all) => *all,
        })
    }

    /// What bounds the time of a token and the memory of an answer.
    fn limits(&self) -> ParserLimits {
        let json = self.parts().1.is_empty();
        ParserLimits {
            // So many has a JSON object with 250 optional properties.
            max_items_in_row: 1_000,
            initial_lexer_fuel: 300_000,
            step_lexer_fuel: 200_000,
            // A grammar of JavaScript takes 30,000.
            step_max_items: if json { 20_000 } else { 50_000 },
            // Of about a kilobyte.
            max_lexer_states: 50_000,
            // The compiler panics at 65,525.
            max_grammar_size: 60_000,
            precompute_large_lexemes: true,
            verbose_errors: false,
        }
    }
}

/// Compiles grammars, a few at a time, each on a thread of its own.
pub struct GrammarCompiler {
    factory: Arc<ParserFactory>,
    permits: Arc<Semaphore>,
    time: Duration,
}

impl GrammarCompiler {
    /// For the tokens of this factory.
    pub fn new(factory: Arc<ParserFactory>) -> Self {
        Self { factory, permits: Arc::new(Semaphore::new(AT_ONCE)), time: TIME }
    }

    /// What tells which tokens may come next, at the beginning of an answer: each answer needs a clone of its own.
    ///
    /// A token of a Lark grammar can take for ever, even though the first ones did not. So whoever works with a clone
    /// has to end what takes too long, with its [`CancellationHandle`].
    pub async fn compile(&self, grammar: &Grammar) -> Result<Matcher, GrammarError> {
        grammar.measure()?;
        special::refuse_names(grammar.parts(), self.factory.tok_env().tok_trie())?;
        let deadline = Deadline::now() + self.time;
        let permit = timeout_at(deadline, self.permits.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(GrammarError::Busy)?;
        let (answer, compiled) = oneshot::channel();
        let waiting = Waiting::default();
        let (factory, grammar, trial) = (self.factory.clone(), grammar.clone(), waiting.0.clone());
        let work = move || {
            let work = AssertUnwindSafe(|| Ok(build(&factory, grammar, &trial)));
            let _ = answer.send(catch_unwind(work).map_err(invalid).and_then(|built| built));
            // Only now: a thread counts as long as it runs, whether or not someone still waits for it.
            drop(permit);
        };
        let thread = thread::Builder::new().name("grammar".into()).stack_size(STACK);
        thread.spawn(work).map_err(|_| GrammarError::Busy)?;
        let what = "compiling the grammar";
        let late = GrammarError::TookTooLong { what, limit: self.time };
        timeout_at(deadline, compiled)
            .await
            .map_or(Err(late), |it| it.unwrap_or(Err(GrammarError::Busy)))
    }
}

/// Someone who waits for a grammar. When they leave, its trial ends or does not begin.
#[derive(Default)]
struct Waiting(Arc<OnceLock<CancellationHandle>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.set(CancellationHandle::default()).is_err() {
            self.0.get().into_iter().for_each(CancellationHandle::cancel);
        }
    }
}

fn build(
    factory: &ParserFactory,
    grammar: Grammar,
    cancel: &OnceLock<CancellationHandle>,
) -> Result<Matcher, GrammarError> {
    grammar.weigh()?;
    let limits = grammar.limits();
    let init = grammar.into_init().to_internal(Some(factory.tok_env().clone()), limits.clone());
    let (grammar, lexer) = init.map_err(invalid)?;
    begin(&lexer, limits.clone())?;
    let (init, log) = (GrammarInit::Internal(grammar, lexer), Logger::new(0, 0));
    let abilities = InferenceCapabilities::default();
    let parser = factory.create_parser_from_init_ext(init, log, abilities, limits);
    let mut trial = Matcher::new(Ok(parser.map_err(invalid)?)).into_cancellable();
    let matcher = trial.clone();
    let awaited = trial.cancellation_handle().is_some_and(|handle| cancel.set(handle).is_ok());
    if !awaited {
        return Err(GrammarError::Busy);
    }
    at_most("bytes that leave no choice", trial.compute_ff_bytes().len(), MAX_FORCED)?;
    try_out(&mut trial)?;
    Ok(matcher)
}

/// Goes from the lexer's first state by each byte, as the parser does when it is made, but not without limits.
fn begin(lexer: &LexerSpec, mut limits: ParserLimits) -> Result<(), GrammarError> {
    let mut states = lexer.to_regex_vec(&mut limits).map_err(invalid)?;
    states.set_fuel(limits.initial_lexer_fuel);
    let first = states.initial_state(&lexer.all_lexemes());
    for byte in 0..=255 {
        states.transition(first, byte);
    }
    states.get_error().map_or(Ok(()), |error| Err(invalid(error)))
}

/// Goes through the first tokens of one answer: whether there are any, and how long each takes.
fn try_out(matcher: &mut Matcher) -> Result<(), GrammarError> {
    let tokens = matcher.tok_env().map_err(invalid)?;
    for step in 0..TRIAL {
        if matcher.is_stopped() {
            break;
        }
        let start = Instant::now();
        let mask = matcher.compute_mask().map_err(invalid)?;
        // Bytes show each place of a grammar, longer tokens get further.
        let allowed = || mask.iter().filter(|&token| tokens.tok_trie().token_len(token) == 1);
        let (bytes, all) = (allowed().count(), mask.num_set().max(1));
        let token = if step % 2 == 0 && bytes > 0 {
            allowed().nth((7919 * step + 13) % bytes)
        } else {
            mask.iter().nth((7919 * step + 13) % all)
        };
        token.map_or(Ok(()), |token| matcher.consume_token(token)).map_err(invalid)?;
        if start.elapsed() > TRIAL_TIME {
            let what = "a token of the grammar";
            return Err(GrammarError::TookTooLong { what, limit: TRIAL_TIME });
        }
    }
    Ok(())
}

/// The first lines of an error of llguidance, without the state or the backtrace that may follow.
fn invalid(error: impl Display) -> GrammarError {
    let error = error.to_string();
    let told = error.split("\n<").next().unwrap_or_default();
    let told = match told.strip_prefix("panic: ") {
        Some(panic) => format!("the grammar is not supported ({panic})"),
        None if told == "NoExtensionBias" => "nothing can match the grammar".into(),
        None => told.lines().take(6).collect::<Vec<_>>().join("\n"),
    };
    GrammarError::Invalid(told.chars().take(500).collect())
}
