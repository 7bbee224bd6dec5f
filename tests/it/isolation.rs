//! A failure in one request does not affect other requests or the engine.

use std::fs;
use std::path::Path;

use axum::body::{to_bytes, Body};
use axum::http::{Request as HttpRequest, StatusCode};
use candle_core::{Result as TensorResult, Tensor};
use colm::serve::ServeOptions;
use colm::{Engine, Error, Grammar, LogitsProcessor, Message, Request};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::shipped;
use futures::future::join_all;
use futures::TryStreamExt;
use serde_json::{json, Value};
use tempfile::TempDir;
use tower::ServiceExt;

/// The number of requests that run while another fails.
const OTHERS: usize = 32;

/// A failure at the `after`-th token.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Sampling returns an error.
    Sampling,
    /// Sampling panics.
    Panic,
    /// The model's logits are NaN.
    NotANumber,
    /// No token is allowed.
    NoToken,
}

struct Failing {
    failure: Failure,
    prompt: usize,
    after: usize,
}

impl LogitsProcessor for Failing {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> TensorResult<Tensor> {
        if context.len() < self.prompt + self.after {
            // The model must not end the answer.
            let mut values = logits.to_vec1::<f32>()?;
            values[0] = f32::NEG_INFINITY;
            return Tensor::from_vec(values, logits.shape(), logits.device());
        }
        match self.failure {
            Failure::Sampling => candle_core::bail!("injected"),
            Failure::Panic => panic!("injected"),
            Failure::NotANumber => logits * f64::NAN,
            Failure::NoToken => logits.zeros_like()?.affine(1., f64::NEG_INFINITY),
        }
    }
}

async fn started(model: &str) -> Engine {
    engine(&options(Path::new(&shipped(model))).max_seqs(40)).await
}

fn other(index: usize) -> Request {
    let question = match index % 4 {
        0 => format!("What is {} + 58?", 10 + index),
        1 => format!("Sort {} 3 71 18.", 20 + index),
        2 => "Reverse: blue fox river".to_string(),
        _ => format!("What is the remainder of {} divided by 6?", 30 + index),
    };
    let mut request = Request::chat(vec![Message::user(question)]);
    if index.is_multiple_of(3) {
        request.sampling.temperature = 0.9;
        request.seed = Some(index as u64);
    }
    request.chains(chain_count(1 + index % 4)).max_tokens(40)
}

/// The text and the number of tokens of an answer, streamed or whole.
async fn answered(
    engine: &Engine,
    request: Request,
    streamed: bool,
) -> Result<(String, usize), Error> {
    if !streamed {
        let answer = engine.answer(request).await?;
        return Ok((answer.text, answer.usage.completion_tokens));
    }
    let mut stream = engine.stream(request).await?;
    let (mut text, mut tokens) = (String::new(), 0);
    while let Some(piece) = stream.try_next().await? {
        text += &piece.text;
        tokens = piece.usage.map_or(tokens, |usage| usage.completion_tokens);
    }
    Ok((text, tokens))
}

/// Runs a request that fails among others, whose answers must not change.
async fn among_others(engine: &Engine, alone: &[(String, usize)], fail: Request) -> Error {
    let others = join_all((0..OTHERS).map(|index| answered(engine, other(index), index % 2 == 0)));
    let whole = answered(engine, fail.clone(), false);
    let (others, failed, failed_whole) =
        futures::join!(others, answered(engine, fail, true), whole);
    assert_eq!(failed_whole.unwrap_err().to_string(), failed.as_ref().unwrap_err().to_string());
    for (index, (other, alone)) in others.into_iter().zip(alone).enumerate() {
        assert_eq!(&other.unwrap(), alone, "request {index}");
    }
    failed.unwrap_err()
}

async fn solo_answers(engine: &Engine) -> Vec<(String, usize)> {
    let mut alone = Vec::new();
    for index in 0..OTHERS {
        alone.push(answered(engine, other(index), false).await.unwrap());
    }
    alone
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampling_failure_ends_its_own_answer_only() {
    for model in ["tiny-colm-air", "tiny-colm"] {
        let engine = started(model).await;
        let alone = solo_answers(&engine).await;
        for failure in [Failure::Sampling, Failure::Panic, Failure::NotANumber, Failure::NoToken] {
            for (after, temperature) in [(0, 0.), (3, 0.7)] {
                let prompt = vec![1, 2, 3, 4, 5];
                let failing = Failing { failure, prompt: prompt.len(), after };
                let request = Request::tokens(prompt).max_tokens(50).temperature(temperature);
                let request = request.logits_processor(failing);
                let error = among_others(&engine, &alone, request).await;
                assert!(matches!(error, Error::Failed(_)), "{failure:?}: {error:?}");
                assert!(!error.to_string().contains('\n'), "{error}");
                if matches!(failure, Failure::NotANumber | Failure::NoToken) {
                    assert!(error.to_string().contains("not finite numbers"), "{error}");
                }
            }
        }
        // The engine answers as before.
        assert_eq!(answered(&engine, other(1), false).await.unwrap(), alone[1]);
    }
}

/// An invalid request gets an error while others run.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_request_fails_alone() {
    let engine = started("tiny-colm-air").await;
    let alone = solo_answers(&engine).await;
    let tokens = |tokens: Vec<u32>| Request::tokens(tokens);
    let grammar = |grammar: Grammar| tokens(vec![1, 2]).grammar(grammar);
    let refused = [
        tokens(Vec::new()),
        tokens(vec![1, 768]),
        tokens(vec![1; 100_000]),
        tokens(vec![1]).chains(chain_count(5)),
        grammar(Grammar::Regex("(".into())),
        grammar(Grammar::JsonSchema(
            serde_json::json!({"type": "string", "minLength": 3, "maxLength": 2}),
        )),
        Request::text("x".repeat(10_000_000)),
    ];
    for request in refused {
        let error = among_others(&engine, &alone, request).await;
        assert!(!matches!(error, Error::Failed(_)), "{error:?}");
    }
}

/// Text is cut at character boundaries although tokens are not; half a character does not panic.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_half_characters_are_decoded() {
    let engine = started("tiny-colm-air").await;
    let alone = solo_answers(&engine).await;
    let request = Request::tokens(vec![1, 2])
        .grammar(Grammar::Lark("start: <[226]> /aaebb/".into()))
        .stop(["a"]);
    let others = join_all((0..OTHERS).map(|index| answered(&engine, other(index), index % 2 == 0)));
    let (others, half) = futures::join!(others, answered(&engine, request, false));
    assert_eq!(others.into_iter().map(Result::unwrap).collect::<Vec<_>>(), alone);
    assert_eq!(half.unwrap().0, "\u{fffd}");
}

/// The shipped model with a chat template that rejects some conversations.
fn with_a_strict_template() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(shipped("tiny-colm-air")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("tokenizer_config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let template = config["chat_template"].as_str().unwrap();
    let check =
        "{%- if 'boom' in messages[-1].content -%}{{ raise_exception('no boom') }}{%- endif -%}";
    let check =
        format!("{check}{{%- if 'qqq' in messages[-1].content -%}}{{{{ 1 // 0 }}}}{{%- endif -%}}");
    config["chat_template"] = format!("{check}{template}").into();
    fs::write(path, config.to_string()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_error_fails_its_request_only() {
    let folder = with_a_strict_template();
    let engine = engine(&options(folder.path()).max_seqs(40)).await;
    let alone = solo_answers(&engine).await;
    for question in ["boom", "qqq"] {
        let refused = Request::chat(vec![Message::user(question)]);
        let error = among_others(&engine, &alone, refused).await;
        assert!(matches!(error, Error::ChatTemplate(_)), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    for stream in [false, true] {
        let body = json!({"messages": [{"role": "user", "content": "boom"}], "stream": stream});
        let request = HttpRequest::post("/v1/chat/completions");
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains("no boom"), "{body}");
    }
}

/// A grammar that cannot determine the next tokens fails its own request.
#[tokio::test(flavor = "multi_thread")]
async fn a_grammar_that_cannot_continue_fails_its_request_only() {
    for model in ["tiny-colm-air", "tiny-colm"] {
        let engine = started(model).await;
        let alone = solo_answers(&engine).await;
        let request = Request::tokens(vec![1, 2])
            .max_tokens(300)
            .grammar(Grammar::Lark("start: /[0-9]{100}/ /a+/ \"ab\"".into()));
        let error = among_others(&engine, &alone, request).await;
        assert!(matches!(error, Error::Grammar(_)), "{error:?}");
        assert!(error.to_string().contains("takes too long"), "{error}");
    }
}

/// Prefers the digit 0 as the first token and the letter a after that.
struct ZeroThenLetters {
    prompt: usize,
    zero: usize,
    letter: usize,
}

impl LogitsProcessor for ZeroThenLetters {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> TensorResult<Tensor> {
        let mut values = logits.to_vec1::<f32>()?;
        values[self.letter] += 1e4;
        if context.len() == self.prompt {
            values[self.zero] += 2e4;
        }
        Tensor::from_vec(values, logits.shape(), logits.device())
    }
}

/// A long answer whose tokens all match its grammar does not run out of lexer fuel.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_follows_its_grammar() {
    let engine = started("tiny-colm-air").await;
    let tokenizer = Path::new(&shipped("tiny-colm-air")).join("tokenizer.json");
    let tokenizer: Value = serde_json::from_str(&fs::read_to_string(tokenizer).unwrap()).unwrap();
    let token = |text| tokenizer["model"]["vocab"][text].as_u64().unwrap() as usize;
    let prompt = vec![1, 2];
    let choice = ZeroThenLetters { prompt: prompt.len(), zero: token("0"), letter: token("a") };
    // The grammar refuses the digit, so the engine computes a token mask, which sets the fuel of the lexer. After that
    // each token matches and uses fuel for each alternative: one mask gives enough for 256 tokens,
    // but not for 800.
    let alternatives: Vec<_> = ('a'..='z')
        .flat_map(|last| (1500..1504).map(move |length| format!("[a-{last}]{{{length}}}")))
        .collect();
    let grammar = Grammar::Regex(alternatives.join("|"));
    let request = Request::tokens(prompt).max_tokens(800).grammar(grammar).logits_processor(choice);
    let answer = engine.answer(request).await.unwrap();
    assert_eq!(answer.text, "a".repeat(800));
}
