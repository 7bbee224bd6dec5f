//! One client: a connection on which streaming requests follow each other.

use std::time::Instant;

use anyhow::{ensure, Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{handshake, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use tokio::net::TcpStream;

/// What a client asks for, and of whom.
#[derive(Clone)]
pub struct Target {
    /// Host and port.
    pub address: String,
    pub model_id: String,
    pub api_key: Option<String>,
    /// The length of the answers.
    pub tokens: usize,
}

/// When the tokens of an answer arrived, in milliseconds.
pub struct Timing {
    /// From sending the request to the first token.
    pub first_ms: f64,
    /// From each token to the next.
    pub gaps_ms: Vec<f64>,
}

pub struct Client {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn connect(target: Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { target, sender })
    }

    /// Sends a completion request and reads its whole answer, one event per token. A special token has no text and no
    /// event of its own, so what shows that an answer is whole is its `finish_reason`.
    pub async fn complete(&mut self, prompt: &str) -> Result<Timing> {
        let body = json!({
            "model": self.target.model_id,
            "prompt": prompt,
            "max_tokens": self.target.tokens,
            "temperature": 0,
            "stream": true,
        });
        let began = Instant::now();
        let request = Request::post("/v1/completions").header("content-type", "application/json");
        let mut response = self.send(request, body.to_string()).await?.into_body();
        let (mut events, mut times) = (Events::default(), Vec::new());
        let mut is_whole = false;
        while let Some(frame) = response.frame().await {
            let Ok(bytes) = frame?.into_data() else { continue };
            let ms = began.elapsed().as_secs_f64() * 1e3;
            for event in events.push(&bytes)? {
                let choice = &event["choices"][0];
                if !choice["text"].as_str().unwrap_or_default().is_empty() {
                    times.push(ms);
                }
                is_whole |= choice["finish_reason"] == "length";
            }
        }
        ensure!(is_whole && !times.is_empty(), "an answer ended before its last token");
        let gaps_ms = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Ok(Timing { first_ms: times[0], gaps_ms })
    }

    /// Reads `/metrics`.
    pub async fn scrape(&mut self) -> Result<()> {
        let response = self.send(Request::get("/metrics"), String::new()).await?;
        response.into_body().collect().await?;
        Ok(())
    }

    async fn send(
        &mut self,
        mut request: hyper::http::request::Builder,
        body: String,
    ) -> Result<Response<Incoming>> {
        request = request.header("host", &self.target.address);
        if let Some(key) = &self.target.api_key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::from(body))?).await?;
        ensure!(response.status() == 200, "the server answers with {}", response.status());
        Ok(response)
    }
}

/// The server-sent events of a stream of bytes.
#[derive(Default)]
struct Events {
    /// The beginning of a line.
    line: Vec<u8>,
}

impl Events {
    /// The events that end in `bytes`, without `[DONE]`.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
            if let Some(data) = data.filter(|data| *data != b"[DONE]") {
                let event: Value = serde_json::from_slice(data).context("an event is not JSON")?;
                ensure!(event.get("error").is_none(), "{event}");
                events.push(event);
            }
        }
        Ok(events)
    }
}
