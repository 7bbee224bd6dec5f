//! The worker process: loads one model, then answers one batch of requests per line until its input ends.

use std::io::{stdin, stdout, BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{bail, Context, Result};
use colm::{model_id_at, ChainCount};
use colm_testing::process_memory::peak_mib;
use mistralrs_core::{
    Constraint, MistralRs, NormalRequest, Request, RequestMessage, Response, SamplingParams,
};
use tokio::sync::mpsc::{channel, Receiver};
use tokio::task::JoinSet;

use super::engines::{start, Running};
use super::protocol::{Batch, GenerationRequest, Reply, Start, Timing};

/// Reads standard input to its end.
pub async fn run() -> Result<()> {
    let mut lines = stdin().lock().lines();
    let first = lines.next().context("expected a line with the model to load")??;
    let began = Instant::now();
    let running = match start(&serde_json::from_str::<Start>(&first)?).await {
        Ok(running) => running,
        Err(error) => return write_reply(&Reply::Error(format!("{error:#}"))),
    };
    write_reply(&Reply::Ready { load_ms: ms_since(began) })?;
    for line in lines {
        let batch = serde_json::from_str::<Batch>(&line?)?;
        write_reply(&match answer(&running, batch).await {
            Ok(answers) => Reply::Answers { answers, peak_mib: peak_mib().ok() },
            Err(error) => Reply::Error(format!("{error:#}")),
        })?;
    }
    Ok(())
}

fn write_reply(reply: &Reply) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{}", serde_json::to_string(reply)?)?;
    Ok(out.flush()?)
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Sends all requests of the batch at once; returns their timings in the order of the requests.
async fn answer(running: &Running, batch: Batch) -> Result<Vec<Timing>> {
    let model_id = match batch.chains {
        Some(k) => Some(model_id_at(&running.name, ChainCount::new(k, k)?)),
        None => None,
    };
    let sender = running.host.get_sender(None).map_err(anyhow::Error::msg)?;
    let mut answers = JoinSet::new();
    let began = Instant::now();
    for (index, generation) in batch.requests.into_iter().enumerate() {
        let new_tokens = generation.new_tokens;
        let (request, responses) = request(&running.host, model_id.clone(), generation);
        sender.send(request).await.context("the engine stopped")?;
        answers.spawn(async move {
            let timing = follow(responses, began, new_tokens).await;
            timing.map(|timing| (index, timing))
        });
    }
    let mut timings = Vec::new();
    while let Some(answer) = answers.join_next().await {
        timings.push(answer??);
    }
    timings.sort_by_key(|(index, _)| *index);
    Ok(timings.into_iter().map(|(_, timing)| timing).collect())
}

fn request(
    host: &Arc<MistralRs>,
    model_id: Option<String>,
    generation: GenerationRequest,
) -> (Request, Receiver<Response>) {
    let (response, responses) = channel(2 * generation.new_tokens);
    let sampling =
        SamplingParams { max_len: Some(generation.new_tokens), ..SamplingParams::deterministic() };
    let messages = RequestMessage::CompletionTokens(generation.prompt);
    let id = host.next_request_id();
    let request = NormalRequest {
        model_id,
        is_streaming: true,
        constraint: Constraint::None,
        ..NormalRequest::new_simple(messages, sampling, response, id, None, None)
    };
    (Request::Normal(Box::new(request)), responses)
}

/// Waits for all tokens of an answer; returns when the first and the last one arrived.
async fn follow(
    mut responses: Receiver<Response>,
    began: Instant,
    new_tokens: usize,
) -> Result<Timing> {
    let (mut first_ms, mut last_ms, mut count) = (None, 0., 0);
    while let Some(response) = responses.recv().await {
        match response {
            Response::CompletionChunk(_) => last_ms = ms_since(began),
            other => match other.as_result() {
                Ok(_) => bail!("the engine sent a response that is no chunk of an answer"),
                // Errors of mistral.rs may end with a backtrace on escaped lines.
                Err(error) => {
                    let error = error.to_string();
                    bail!("{}", error.split("\\n").next().unwrap_or(&error))
                }
            },
        }
        first_ms.get_or_insert(last_ms);
        count += 1;
    }
    // With many requests the host's own Llama may generate a token or two too many for one of them. Their time counts,
    // the tokens do not.
    if count < new_tokens {
        bail!("the engine generated {count} of {new_tokens} tokens");
    }
    Ok(Timing { first_ms: first_ms.context("the answer has no tokens")?, last_ms })
}
