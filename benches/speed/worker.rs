//! The process of one contender: loads one model, then answers tasks line by line until its input ends.

use std::io::{stdin, stdout, BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{bail, Context, Result};
use colm::{model_id_at, ChainCount};
use mistralrs_core::{
    Constraint, MistralRs, NormalRequest, Request, RequestMessage, Response, SamplingParams,
};
use tokio::sync::mpsc::{channel, Receiver};
use tokio::task::JoinSet;

use super::engines::{start, Running};
use super::protocol::{Ask, Reply, Start, Task, Times};

/// Serves standard input.
pub async fn run() -> Result<()> {
    let mut lines = stdin().lock().lines();
    let first = lines.next().context("no model to load")??;
    let began = Instant::now();
    let running = match start(&serde_json::from_str::<Start>(&first)?).await {
        Ok(running) => running,
        Err(error) => return say(&Reply::Error(format!("{error:#}"))),
    };
    say(&Reply::Ready { load_ms: ms_since(began) })?;
    for line in lines {
        let task = serde_json::from_str::<Task>(&line?)?;
        say(&match answer(&running, task).await {
            Ok(answers) => Reply::Answers { answers, peak_mib: peak_mib() },
            Err(error) => Reply::Error(format!("{error:#}")),
        })?;
    }
    Ok(())
}

fn say(reply: &Reply) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{}", serde_json::to_string(reply)?)?;
    Ok(out.flush()?)
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// All requests of the task at once.
async fn answer(running: &Running, task: Task) -> Result<Vec<Times>> {
    let model_id = match task.chains {
        Some(k) => Some(model_id_at(&running.name, ChainCount::new(k, k)?)),
        None => None,
    };
    let sender = running.host.get_sender(None).map_err(anyhow::Error::msg)?;
    let mut answers = JoinSet::new();
    let began = Instant::now();
    for (index, ask) in task.requests.into_iter().enumerate() {
        let new_tokens = ask.new_tokens;
        let (request, responses) = request(&running.host, model_id.clone(), ask);
        sender.send(request).await.context("the engine has stopped")?;
        answers.spawn(async move {
            let times = follow(responses, began, new_tokens).await;
            times.map(|times| (index, times))
        });
    }
    let mut times = Vec::new();
    while let Some(answer) = answers.join_next().await {
        times.push(answer??);
    }
    times.sort_by_key(|(index, _)| *index);
    Ok(times.into_iter().map(|(_, times)| times).collect())
}

fn request(
    host: &Arc<MistralRs>,
    model_id: Option<String>,
    ask: Ask,
) -> (Request, Receiver<Response>) {
    let (response, responses) = channel(2 * ask.new_tokens);
    let sampling =
        SamplingParams { max_len: Some(ask.new_tokens), ..SamplingParams::deterministic() };
    let messages = RequestMessage::CompletionTokens(ask.prompt);
    let id = host.next_request_id();
    let request = NormalRequest {
        model_id,
        is_streaming: true,
        constraint: Constraint::None,
        ..NormalRequest::new_simple(messages, sampling, response, id, None, None)
    };
    (Request::Normal(Box::new(request)), responses)
}

/// Waits for every token of an answer.
async fn follow(
    mut responses: Receiver<Response>,
    began: Instant,
    new_tokens: usize,
) -> Result<Times> {
    let (mut first_ms, mut last_ms, mut count) = (None, 0., 0);
    while let Some(response) = responses.recv().await {
        match response {
            Response::CompletionChunk(_) => last_ms = ms_since(began),
            other => match other.as_result() {
                Ok(_) => bail!("the engine sent something else than a piece of an answer"),
                // The host's errors go on with a backtrace.
                Err(error) => {
                    let error = error.to_string();
                    bail!("{}", error.split("\\n").next().unwrap_or(&error))
                }
            },
        }
        first_ms.get_or_insert(last_ms);
        count += 1;
    }
    // Among many requests the host's own Llama may answer one with a token or two more than asked:
    // they cost their time and are not counted.
    if count < new_tokens {
        bail!("asked for {new_tokens} new tokens, got {count}");
    }
    Ok(Times { first_ms: first_ms.context("an answer without a token")?, last_ms })
}

/// The most memory this process has had resident, mapped files included, as Linux counts it.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.)
}
