//! Grammars that an answer must match.
//!
//! Clients write grammars, and a few hundred bytes can take hours or gigabytes to compile. A grammar is therefore
//! checked for its size, compiled on a separate thread with a large stack, and tried on a few tokens. Any problem is an
//! error.

mod bounds;
mod expansion;
mod ignored;
mod intersections;
mod lark;
mod size;
mod special;
mod tool_call;

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
use tokio::sync::{oneshot, Semaphore};
use tokio::time::{timeout_at, Instant as Deadline};

use crate::grammar::{Grammar, GrammarError};
use size::{at_most, embedded_schemas, Size};
pub use tool_call::tool_call;

/// A grammar of llguidance in its JSON form.
pub use mistralrs_core::llguidance::api::TopLevelGrammar as LlguidanceGrammar;

/// How many grammars are compiled at once.
const MAX_CONCURRENT: usize = 2;
/// The time limit for waiting and compiling.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(5);
/// The stack of the compiling thread, in bytes: more than ten times the stack that any grammar of the allowed size used
/// in tests. Unused stack takes no memory.
const STACK_BYTES: usize = 256 << 20;
/// The most grammars in one llguidance grammar.
const MAX_GRAMMARS: usize = 100;
/// The most forced bytes, which are the only possible continuation. They are tokenized again for each token.
const MAX_FORCED_BYTES: usize = 32 << 10;
/// The number of tokens on which a grammar is tried.
const TRIAL_TOKENS: usize = 16;
/// The time limit of each of these tokens.
const TRIAL_TOKEN_TIMEOUT: Duration = Duration::from_millis(500);

impl Grammar {
    /// The JSON schemas and the texts of the grammar.
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

    /// Fails if the source of the grammar is too large.
    fn check_size(&self) -> Result<(), GrammarError> {
        if let Self::Llguidance(all) = self {
            at_most("grammars in it", all.grammars.len(), MAX_GRAMMARS)?;
        }
        let (schemas, texts) = self.parts();
        let mut size = Size::default();
        schemas.into_iter().try_for_each(|schema| size.schema(schema))?;
        texts.into_iter().try_for_each(|text| size.text(text))
    }

    /// Fails if the compiler would take too long for the grammar, or would get it wrong.
    fn check_content(&self) -> Result<(), GrammarError> {
        ignored::refuse(self)?;
        let (schemas, texts) = self.parts();
        let check = |schema: &Value| bounds::check(schema).and_then(|()| expansion::check(schema));
        schemas.into_iter().try_for_each(check)?;
        let mut size = Size::default();
        for text in texts {
            // A regular expression has no operator for intersections, and its `&` is a character.
            if !matches!(self, Self::Regex(_)) {
                intersections::check_lark(text)?;
            }
            for schema in embedded_schemas(text)? {
                size.schema(&schema)?;
                check(&schema)?;
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

    /// The limits on the time per token and on the memory of an answer.
    fn limits(&self) -> ParserLimits {
        let json = self.parts().1.is_empty();
        ParserLimits {
            // A JSON object with 250 optional properties has this many items.
            max_items_in_row: 1_000,
            initial_lexer_fuel: 300_000,
            step_lexer_fuel: 200_000,
            // A JavaScript grammar needs 30,000.
            step_max_items: if json { 20_000 } else { 50_000 },
            // Each state takes about a kilobyte.
            max_lexer_states: 50_000,
            // The compiler panics at a size of 65,525.
            max_grammar_size: 60_000,
            precompute_large_lexemes: true,
            verbose_errors: false,
        }
    }
}

/// Compiles grammars on separate threads, a few at a time.
pub struct GrammarCompiler {
    factory: Arc<ParserFactory>,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl GrammarCompiler {
    /// A compiler for the vocabulary of `factory`.
    pub fn new(factory: Arc<ParserFactory>) -> Self {
        Self {
            factory,
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            timeout: COMPILE_TIMEOUT,
        }
    }

    /// Compiles a grammar to a matcher in its initial state. Each answer needs its own: [`matcher_of_answer`].
    ///
    /// A token of a Lark grammar can take forever even if the first ones were fast. The user of a clone must cancel it
    /// after a timeout, with its [`CancellationHandle`].
    pub async fn compile(&self, grammar: &Grammar) -> Result<Matcher, GrammarError> {
        grammar.check_size()?;
        let deadline = Deadline::now() + self.timeout;
        let permit = timeout_at(deadline, self.permits.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(GrammarError::Busy)?;
        let (sender, compiled) = oneshot::channel();
        let waiting = CancelOnDrop::default();
        let (factory, grammar, trial) = (self.factory.clone(), grammar.clone(), waiting.0.clone());
        let work = move || {
            let work = AssertUnwindSafe(|| Ok(build(&factory, grammar, &trial)));
            let _ = sender.send(catch_unwind(work).map_err(invalid).and_then(|built| built));
            // Hold the permit until the thread ends, even if the caller has stopped waiting.
            drop(permit);
        };
        let thread = thread::Builder::new().name("grammar".into()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|_| GrammarError::Busy)?;
        let what = "compiling the grammar";
        let late = GrammarError::TookTooLong { what, limit: self.timeout };
        timeout_at(deadline, compiled)
            .await
            .map_or(Err(late), |it| it.unwrap_or(Err(GrammarError::Busy)))
    }
}

/// A matcher for one answer. The lexer of a clone would be shared: the choices of a request would wait for each other's
/// masks, which counts as their own time, and one that exhausts the limits of the lexer would fail them all.
pub fn matcher_of_answer(compiled: &Matcher) -> Matcher {
    compiled.deep_clone()
}

/// Cancels the trial of a grammar, or prevents its start, when the caller stops waiting.
#[derive(Default)]
struct CancelOnDrop(Arc<OnceLock<CancellationHandle>>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.0.set(CancellationHandle::default()).is_err() {
            self.0.get().into_iter().for_each(CancellationHandle::cancel);
        }
    }
}

/// Compiles a grammar and tries it.
fn build(
    factory: &ParserFactory,
    grammar: Grammar,
    cancel: &OnceLock<CancellationHandle>,
) -> Result<Matcher, GrammarError> {
    grammar.check_content()?;
    special::refuse_names(grammar.parts(), factory.tok_env().tok_trie())?;
    let limits = grammar.limits();
    let init = grammar.into_init().to_internal(Some(factory.tok_env().clone()), limits.clone());
    let (grammar, lexer) = init.map_err(invalid)?;
    check_first_bytes(&lexer, limits.clone())?;
    let (init, log) = (GrammarInit::Internal(grammar, lexer), Logger::new(0, 0));
    let abilities = InferenceCapabilities::default();
    let parser = factory.create_parser_from_init_ext(init, log, abilities, limits);
    let mut trial = Matcher::new(Ok(parser.map_err(invalid)?)).into_cancellable();
    // Without the lexer states of the trial, because each answer has a copy.
    let matcher = trial.deep_clone();
    let awaited = trial.cancellation_handle().is_some_and(|handle| cancel.set(handle).is_ok());
    if !awaited {
        return Err(GrammarError::Busy);
    }
    at_most("forced bytes", trial.compute_ff_bytes().len(), MAX_FORCED_BYTES)?;
    try_out(&mut trial)?;
    Ok(matcher)
}

/// Computes the lexer's transitions from its initial state for all bytes, with limits. The parser does the same without
/// limits when it is created.
fn check_first_bytes(lexer: &LexerSpec, mut limits: ParserLimits) -> Result<(), GrammarError> {
    let mut states = lexer.to_regex_vec(&mut limits).map_err(invalid)?;
    states.set_fuel(limits.initial_lexer_fuel);
    let first = states.initial_state(&lexer.all_lexemes());
    for byte in 0..=255 {
        states.transition(first, byte);
    }
    states.get_error().map_or(Ok(()), |error| Err(invalid(error)))
}

/// Generates the first tokens of an answer. Fails if there are none or if one takes too long.
fn try_out(matcher: &mut Matcher) -> Result<(), GrammarError> {
    let tokens = matcher.tok_env().map_err(invalid)?;
    for step in 0..TRIAL_TOKENS {
        if matcher.is_stopped() {
            break;
        }
        let start = Instant::now();
        let mask = matcher.compute_mask().map_err(invalid)?;
        // Alternate between single bytes, which visit more states of the grammar, and longer tokens, which get further.
        let allowed = || mask.iter().filter(|&token| tokens.tok_trie().token_len(token) == 1);
        let (bytes, all) = (allowed().count(), mask.num_set().max(1));
        let token = if step % 2 == 0 && bytes > 0 {
            allowed().nth((7919 * step + 13) % bytes)
        } else {
            mask.iter().nth((7919 * step + 13) % all)
        };
        token.map_or(Ok(()), |token| matcher.consume_token(token)).map_err(invalid)?;
        if start.elapsed() > TRIAL_TOKEN_TIMEOUT {
            let what = "computing a token of the grammar";
            return Err(GrammarError::TookTooLong { what, limit: TRIAL_TOKEN_TIMEOUT });
        }
    }
    Ok(())
}

/// Converts an error of llguidance. Keeps its first lines, without the state or the backtrace that may follow.
fn invalid(error: impl Display) -> GrammarError {
    let error = error.to_string();
    let message = error.split("\n<").next().unwrap_or_default();
    let message = match message.strip_prefix("panic: ") {
        Some(panic) => format!("the grammar is not supported ({panic})"),
        None if message == "NoExtensionBias" => "nothing can match the grammar".into(),
        None if message.contains("coerce_one_of") => {
            "oneOf is not supported: expected anyOf, or schemas of which no two match the same value".into()
        }
        None => message.lines().take(6).collect::<Vec<_>>().join("\n"),
    };
    GrammarError::Invalid(message.chars().take(500).collect())
}
