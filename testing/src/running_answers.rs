//! Answers that run while something else happens, and the times of their tokens.

use std::time::Instant;

use anyhow::{Context, Result};
use colm::{Engine, Request};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::statistics::percentile;

/// Tokens of each answer before the others may be disturbed.
const UNDISTURBED: usize = 40;

/// Why there is no percentile.
const TOO_FEW: &str = "no token arrived in time";

/// Answers that run in tasks of their own.
pub struct RunningAnswers {
    answers: Vec<JoinHandle<Result<Vec<Instant>>>>,
    end: watch::Sender<bool>,
}

/// Milliseconds between two tokens of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gaps {
    /// Median before the disturbance.
    pub alone: f64,
    /// Median during it.
    pub p50: f64,
    /// During it.
    pub p99: f64,
    /// The longest during it.
    pub max: f64,
}

impl RunningAnswers {
    /// Starts `count` answers and waits until they have run for a while.
    ///
    /// # Errors
    /// If the answers have ended.
    pub async fn start(engine: &Engine, count: usize) -> Result<Self> {
        let (arrived, mut running) = watch::channel(0);
        let (end, ended) = watch::channel(false);
        let answers = (0..count).map(|index| {
            let (engine, arrived, ended) = (engine.clone(), arrived.clone(), ended.clone());
            tokio::spawn(async move { token_times(&engine, index, arrived, ended).await })
        });
        let answers = answers.collect();
        drop(arrived);
        running.wait_for(|tokens| *tokens >= count * UNDISTURBED).await?;
        Ok(Self { answers, end })
    }

    /// Ends the answers. The disturbance was between `began` and `ended`.
    ///
    /// # Errors
    /// If an answer has failed, or if no token arrived in time.
    pub async fn gaps(self, began: Instant, ended: Instant) -> Result<Gaps> {
        self.end.send(true)?;
        let (mut before, mut during) = (Vec::new(), Vec::new());
        for answer in self.answers {
            for pair in answer.await??.windows(2) {
                let gap = (pair[1] - pair[0]).as_secs_f64() * 1e3;
                if pair[1] < began {
                    before.push(gap);
                } else if pair[0] < ended {
                    during.push(gap);
                }
            }
        }
        Ok(Gaps {
            alone: percentile(&before, 0.5).context(TOO_FEW)?,
            p50: percentile(&during, 0.5).context(TOO_FEW)?,
            p99: percentile(&during, 0.99).context(TOO_FEW)?,
            max: percentile(&during, 1.0).context(TOO_FEW)?,
        })
    }
}

/// When the tokens of an answer arrived, until `ended` is true.
async fn token_times(
    engine: &Engine,
    index: usize,
    arrived: watch::Sender<usize>,
    ended: watch::Receiver<bool>,
) -> Result<Vec<Instant>> {
    let request = Request::tokens(prompt_tokens(32, index + 5)).max_tokens(4000);
    let mut stream = engine.stream(request).await?;
    let mut times = Vec::new();
    while let Some(piece) = futures::StreamExt::next(&mut stream).await {
        piece?;
        times.push(Instant::now());
        arrived.send_modify(|tokens| *tokens += 1);
        if *ended.borrow() {
            break;
        }
    }
    Ok(times)
}

/// Milliseconds from the request to its first token.
///
/// # Errors
/// If the engine fails.
pub async fn first_token_ms(engine: &Engine, prompt: Vec<u32>) -> Result<f64> {
    let began = Instant::now();
    engine.answer(Request::tokens(prompt).max_tokens(1)).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// `count` tokens below 8192 that depend on `seed`.
pub fn prompt_tokens(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|at| (1 + (at * at + 31 * at + 977 * seed) % 8191) as u32).collect()
}
