//! Many clients at once.

use std::time::Instant;

use anyhow::Result;
use colm_testing::statistics::percentile;
use rand::rngs::StdRng;
use rand::Rng;
use tokio::task::JoinSet;

use super::client::{Client, Target, Timing};

/// What the clients ask.
#[derive(Clone, Copy)]
pub struct Load {
    /// Each has one request at a time.
    pub clients: usize,
    /// Of all clients together; each sends at least one.
    pub requests: usize,
    /// The number of tokens of a prompt, of one character each.
    pub prompt: usize,
}

/// What the clients saw.
#[derive(Default)]
pub struct Seen {
    /// From the first request to the end of the last answer.
    pub seconds: f64,
    pub timings: Vec<Timing>,
}

/// Figures of one or several runs with the same load.
pub struct Figures {
    pub first_p50_ms: f64,
    pub first_p99_ms: f64,
    pub token_p50_ms: f64,
    pub token_p99_ms: f64,
}

impl Load {
    /// Sends all requests. No two prompts of a run begin alike, so that no server can reuse one.
    pub async fn run(&self, target: &Target, random: &mut StdRng) -> Result<Seen> {
        let each = (self.requests / self.clients).max(1);
        let mut clients = Vec::with_capacity(self.clients);
        for _ in 0..self.clients {
            let prompts: Vec<String> = (0..each).map(|_| prompt(self.prompt, random)).collect();
            clients.push((Client::connect(target.clone()).await?, prompts));
        }
        let began = Instant::now();
        let mut answers = JoinSet::new();
        for (mut client, prompts) in clients {
            answers.spawn(async move {
                let mut timings = Vec::with_capacity(prompts.len());
                for prompt in prompts {
                    timings.push(client.complete(&prompt).await?);
                }
                anyhow::Ok(timings)
            });
        }
        let mut timings = Vec::new();
        while let Some(answered) = answers.join_next().await {
            timings.extend(answered??);
        }
        Ok(Seen { seconds: began.elapsed().as_secs_f64(), timings })
    }
}

impl Seen {
    pub fn requests_per_second(&self) -> f64 {
        self.timings.len() as f64 / self.seconds
    }
}

impl Figures {
    /// Of all answers in `seen`; `None` if there are none.
    pub fn of<'a>(seen: impl Iterator<Item = &'a Seen>) -> Option<Self> {
        let (mut first, mut gaps) = (Vec::new(), Vec::new());
        for timing in seen.flat_map(|seen| &seen.timings) {
            first.push(timing.first_ms);
            gaps.extend(&timing.gaps_ms);
        }
        Some(Self {
            first_p50_ms: percentile(&first, 0.5)?,
            first_p99_ms: percentile(&first, 0.99)?,
            token_p50_ms: percentile(&gaps, 0.5)?,
            token_p99_ms: percentile(&gaps, 0.99)?,
        })
    }
}

/// Small letters: one token each in the vocabulary of the models.
fn prompt(tokens: usize, random: &mut StdRng) -> String {
    (0..tokens).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}
