//! Random requests, most of them malformed.

use rand::rngs::StdRng;
use rand::Rng;
use serde_json::{json, Value};

pub const CHAT: &str = "/v1/chat/completions";
pub const PATHS: [&str; 3] = [CHAT, "/v1/completions", "/v1/responses"];

/// Bytes to send, and whether the sending side is closed after them.
pub struct RawRequest {
    pub bytes: Vec<u8>,
    pub closes: bool,
}

/// A POST of `body`.
pub fn post(path: &str, body: &[u8]) -> RawRequest {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    RawRequest { bytes: [head.as_bytes(), body].concat(), closes: false }
}

/// A valid body for `path` with every field.
pub fn valid_body(path: &str) -> Value {
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
pub fn odd_value(rng: &mut StdRng) -> Value {
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
pub fn mutate(value: &mut Value, rng: &mut StdRng) {
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

pub fn malformed(rng: &mut StdRng) -> RawRequest {
    let path = PATHS[rng.random_range(0..PATHS.len())];
    let mut body = valid_body(path);
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
            RawRequest { bytes, closes: true }
        }
    }
}

pub fn bad_head(path: &str, rng: &mut StdRng) -> RawRequest {
    let body = valid_body(path).to_string();
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
    RawRequest { bytes: bytes.into_bytes(), closes: true }
}
