//! Malformed requests over TCP: none causes a server error, and the next valid request is answered.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use colm_testing::folders::shipped;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The number of malformed requests.
const REQUESTS: usize = 10_000;

const CHAT: &str = "/v1/chat/completions";
const PATHS: [&str; 3] = [CHAT, "/v1/completions", "/v1/responses"];

/// `colm serve` in its own process, so that its memory can be measured.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_colm"))
            .args(["serve", "-m", &shipped("tiny-colm-air"), "-p", "0", "--kv-cache-mb", "16"])
            .env("RUST_LOG", "off")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        let address = address.parse().unwrap();
        // Keep reading, so that later output does not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Self { process, address }
    }

    /// Resident memory in bytes.
    fn resident(&self) -> usize {
        let statm = format!("/proc/{}/statm", self.process.id().unwrap());
        let pages = fs::read_to_string(statm).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
}

/// Bytes to send, and whether the sending side is closed after them.
struct Sent {
    bytes: Vec<u8>,
    ends: bool,
}

/// The status of the response to `sent`; `None` if the connection was closed without one.
async fn status_of(address: SocketAddr, sent: &Sent) -> Option<u16> {
    let answered = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer before it has read everything.
        let _ = stream.write_all(&sent.bytes).await;
        if sent.ends {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), answered).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer to {:?}", shown(sent)));
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    line.split(' ').nth(1).and_then(|status| status.parse().ok())
}

fn shown(sent: &Sent) -> String {
    String::from_utf8_lossy(&sent.bytes[..sent.bytes.len().min(600)]).into_owned()
}

/// A POST of `body`.
fn post(path: &str, body: &[u8]) -> Sent {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Sent { bytes: [head.as_bytes(), body].concat(), ends: false }
}

/// A valid body for `path` with every field.
fn good(path: &str) -> Value {
    let shared = json!({
        "model": "default", "chains": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1,
        "frequency_penalty": 0.1, "presence_penalty": 0.1, "repetition_penalty": 1.1, "seed": 7,
        "logit_bias": {"5": 1.0}, "dry_multiplier": 0.5, "dry_base": 1.5, "dry_allowed_length": 2,
        "dry_sequence_breakers": ["\n"], "user": "u", "metadata": {"a": "b"}, "store": false,
        "stop": ["zzz"], "stream": false,
    });
    let own = match path {
        CHAT => json!({
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Sort 3 1."}]},
            ],
            "max_tokens": 3, "max_completion_tokens": 4, "n": 2, "logprobs": true, "top_logprobs": 2,
            "stream_options": {"include_usage": true}, "response_format": {"type": "text"},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": "auto", "parallel_tool_calls": true, "reasoning_effort": "low",
        }),
        "/v1/completions" => json!({
            "prompt": "a dog", "max_tokens": 3, "n": 1, "best_of": 2, "logprobs": 1, "echo": true,
        }),
        _ => json!({"input": "a dog", "instructions": "Be brief.", "max_output_tokens": 16}),
    };
    let mut body = shared;
    body.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    body
}

/// Values that few fields accept.
fn odd_value(rng: &mut StdRng) -> Value {
    match rng.random_range(0..22) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(1e300),
        5 => json!(-1e300),
        6 => json!(u64::MAX),
        7 => json!(i64::MIN),
        8 => json!(0.5),
        9 => json!(""),
        10 => json!("x".repeat(rng.random_range(1..5000))),
        11 => json!([]),
        12 => json!({}),
        13 => json!([null]),
        14 => json!([[[[1]]]]),
        15 => json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}),
        16 => json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
        17 => json!(vec![1; rng.random_range(1..3000)]),
        18 => json!(vec!["a"; rng.random_range(1..300)]),
        19 => json!("\u{0}\u{fffd}é🦊\u{202e}"),
        20 => json!({"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}),
        _ => json!({"": {"": [1, "2", null]}}),
    }
}

/// Replaces a random part of `value`.
fn mutate(value: &mut Value, rng: &mut StdRng) {
    let inner = match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = rng.random_range(0..fields.len());
            fields.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) if (inner.is_object() || inner.is_array()) && rng.random_bool(0.6) => {
            mutate(inner, rng);
        }
        Some(inner) => *inner = odd_value(rng),
        None => *value = odd_value(rng),
    }
}

fn malformed(rng: &mut StdRng) -> Sent {
    let path = PATHS[rng.random_range(0..PATHS.len())];
    let mut body = good(path);
    match rng.random_range(0..20) {
        0..=9 => {
            for _ in 0..rng.random_range(1..3) {
                mutate(&mut body, rng);
            }
            post(path, body.to_string().as_bytes())
        }
        10 => {
            let text = body.to_string();
            post(path, &text.as_bytes()[..rng.random_range(0..text.len())])
        }
        11 => {
            let mut bytes = body.to_string().into_bytes();
            for _ in 0..rng.random_range(1..5) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            post(path, &bytes)
        }
        12 => {
            let text = body.to_string();
            let (field, _) = body.as_object().unwrap().iter().next().unwrap();
            post(path, format!("{{\"{field}\":1,{}", &text[1..]).as_bytes())
        }
        13 => {
            let (open, close) = [("[", "]"), ("{\"a\":", "}")][rng.random_range(0..2)];
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            let field =
                ["messages", "prompt", "input", "tools", "metadata"][rng.random_range(0..5)];
            post(path, format!("{{\"{field}\":{deep}}}").as_bytes())
        }
        14 => {
            body["not_a_field"] = odd_value(rng);
            post(path, body.to_string().as_bytes())
        }
        15 => {
            let bytes: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
            post(path, &bytes)
        }
        16 => bad_head(path, rng),
        17 => {
            let number = [
                "1e999",
                "-0",
                "00",
                "1.",
                ".5",
                "0x10",
                "NaN",
                "1e-999",
                "9".repeat(400).as_str(),
            ][rng.random_range(0..9)]
            .to_string();
            let field =
                ["max_tokens", "temperature", "n", "seed", "chains"][rng.random_range(0..5)];
            post(path, format!("{{\"{field}\":{number}}}").as_bytes())
        }
        18 => {
            let tokens: Vec<u64> =
                (0..rng.random_range(0..2000)).map(|_| rng.random_range(0..900)).collect();
            post(
                "/v1/completions",
                json!({"prompt": tokens, "max_tokens": 1}).to_string().as_bytes(),
            )
        }
        _ => {
            let bytes = (0..rng.random_range(1..100)).map(|_| rng.random()).collect();
            Sent { bytes, ends: true }
        }
    }
}

fn bad_head(path: &str, rng: &mut StdRng) -> Sent {
    let body = good(path).to_string();
    let length = body.len();
    let json = "content-type: application/json\r\nconnection: close\r\n";
    let bytes = match rng.random_range(0..12) {
        0 => format!("BREW {path} HTTP/1.1\r\nhost: localhost\r\n{json}\r\n"),
        1 => format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\n{json}\r\n"),
        2 => format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{json}\r\n"),
        3 => format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{json}content-length: {}\r\n\r\n{body}", length + 9),
        4 => format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{json}content-length: -1\r\n\r\n{body}"),
        5 => format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{json}content-length: 99999999999999\r\n\r\n{body}"),
        6 => format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{json}transfer-encoding: chunked\r\n\r\nzz\r\n{body}"),
        7 => format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"),
        8 => format!("POST {path} HTTP/1.1\r\n{}\r\n{json}\r\n", "x: y\r\n".repeat(500)),
        9 => format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n{json}\r\n", "y".repeat(100_000)),
        10 => format!("POST {}{path} HTTP/1.1\r\nhost: localhost\r\n{json}\r\n", "/x".repeat(3000)),
        _ => format!("POST {path} HTTP/9.9\r\nhost: \u{1}\r\n{json}\r\n{body}"),
    };
    Sent { bytes: bytes.into_bytes(), ends: true }
}

async fn valid_request_is_answered(address: SocketAddr) {
    let body = json!({
        "messages": [{"role": "user", "content": "Sort 93 3 71 18."}], "temperature": 0,
    });
    assert_eq!(status_of(address, &post(CHAT, body.to_string().as_bytes())).await, Some(200));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_client_errors() {
    let server = Server::start().await;
    let address = server.address;
    let mut rng = StdRng::seed_from_u64(12);
    let (mut warm, mut refused, mut answered) = (0, 0, 0);
    for index in 0..REQUESTS {
        let sent = malformed(&mut rng);
        let status = status_of(address, &sent).await;
        assert!(status.is_none_or(|status| status < 500), "{status:?} to {}", shown(&sent));
        match status {
            Some(200) => answered += 1,
            _ => refused += 1,
        }
        if index % 500 == 0 {
            valid_request_is_answered(address).await;
        }
        if index == REQUESTS / 2 {
            warm = server.resident();
        }
    }
    valid_request_is_answered(address).await;
    assert!(
        refused > REQUESTS / 2 && answered > REQUESTS / 100,
        "{refused} refused, {answered} answered"
    );
    let grown = server.resident().saturating_sub(warm);
    assert!(grown < 64 << 20, "{grown} bytes more than after half of the requests");
}

/// Every field of every body with every unusual value, each in an otherwise valid body.
#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_field_causes_a_server_error() {
    let server = Server::start().await;
    let address = server.address;
    let mut rng = StdRng::seed_from_u64(5);
    for path in PATHS {
        for field in good(path).as_object().unwrap().keys() {
            for _ in 0..12 {
                let mut body = good(path);
                body[field] = odd_value(&mut rng);
                let sent = post(path, body.to_string().as_bytes());
                let status = status_of(address, &sent).await.unwrap();
                assert!(
                    status == 200 || (400..500).contains(&status),
                    "{status}: {}",
                    shown(&sent)
                );
            }
        }
    }
    valid_request_is_answered(address).await;
}
