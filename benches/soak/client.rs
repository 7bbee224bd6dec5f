//! One client: a connection per request, on which it reads everything or leaves early.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Answered,
    Streamed,
    Left,
}

pub struct Client {
    address: String,
    random: StdRng,
}

/// No answer takes longer, unless the server is stuck.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Client {
    pub fn new(address: String, seed: u64) -> Self {
        Self { address, random: StdRng::seed_from_u64(seed) }
    }

    /// Sends a request and reads its answer. One in four clients leaves before that.
    pub fn ask(&mut self) -> Result<Outcome> {
        let tokens = self.random.random_range(10..=4000);
        let prompt: Vec<u32> = (0..tokens).map(|_| self.random.random_range(1..61)).collect();
        let stream: bool = self.random.random();
        let body = json!({
            "prompt": prompt,
            "chains": self.random.random_range(1..=4),
            "max_tokens": self.random.random_range(1..=60),
            "temperature": 0.8,
            "top_p": 0.9,
            "stream": stream,
        });
        let mut connection = self.connect(&body.to_string())?;
        if self.random.random_range(0..4) == 0 {
            let wait = self.random.random_range(0..2000);
            std::thread::sleep(Duration::from_millis(wait));
            return Ok(Outcome::Left);
        }
        let mut reply = String::new();
        connection.read_to_string(&mut reply).context("the connection failed")?;
        ensure!(
            reply.starts_with("HTTP/1.1 200"),
            "{}",
            reply.lines().next().unwrap_or("no reply")
        );
        if stream {
            ensure!(reply.contains("data: [DONE]"), "a stream has no end: {reply}");
            return Ok(Outcome::Streamed);
        }
        let body = reply.split_once("\r\n\r\n").context("no body")?.1;
        let answer: Value = serde_json::from_str(body).context("the answer is not JSON")?;
        ensure!(answer["usage"]["prompt_tokens"] == tokens, "{answer}");
        Ok(Outcome::Answered)
    }

    fn connect(&self, body: &str) -> Result<TcpStream> {
        let mut connection = TcpStream::connect(&self.address)?;
        connection.set_read_timeout(Some(LONGEST_WAIT))?;
        let length = body.len();
        write!(
            connection,
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        Ok(connection)
    }
}
