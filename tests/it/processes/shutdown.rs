//! Signals end the server.

use std::io::{BufRead, Write};

use serde_json::{json, Value};

use super::server::{read_until, rest, Server};

/// Asserts a response with an error body.
fn stopped(response: &str) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response}"));
    assert!(head.starts_with("HTTP/1.1 503"), "{response}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["type"], "server_error", "{response}");
}

#[test]
fn signals_shut_the_server_down() {
    for signal in ["INT", "TERM"] {
        let server = Server::start(&[]);
        let mut kept_alive = server.client("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_until(&mut kept_alive, r#"{"status":"ok"}"#);
        server.process.signal(signal);
        assert_eq!(server.end(), "Stopping\n");
        assert_eq!(rest(kept_alive), "");
    }
}

#[test]
fn the_server_exits_with_a_full_stderr_pipe() {
    let Server { mut process, stderr, .. } = Server::start(&[]);
    drop(stderr);
    process.signal("TERM");
    assert_eq!(process.code(), Some(0));
}

#[test]
fn a_partial_request_does_not_delay_shutdown() {
    let server = Server::start(&[]);
    let half_a_head = server.client("POST /v1/chat/completions HTTP/1.1\r\nHost: local");
    let mut half_a_body = server.client_without_body(100);
    half_a_body.write_all(b"{\"messages\":").unwrap();
    server.process.signal("TERM");
    stopped(&rest(half_a_body));
    assert_eq!(server.end(), "Stopping\n");
    assert_eq!(rest(half_a_head), "");
}

#[test]
fn a_second_signal_ends_the_server_immediately() {
    let mut server = Server::start(&[]);
    let half_a_head = server.client("POST /v1/chat/completions HTTP/1.1\r\n");
    server.process.signal("TERM");
    let mut line = String::new();
    server.stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "Stopping\n");
    server.process.signal("TERM");
    assert_eq!(server.end(), "", "it has not waited for clients");
    assert_eq!(rest(half_a_head), "");
}

#[test]
fn answers_in_progress_end_with_an_error() {
    // Sixteen answers in turn keep the other requests waiting.
    let server = Server::start(&["--max-seqs", "1", "--drain-timeout", "0"]);
    let mut first = server.asking(json!({"stream": true, "n": 16}));
    read_until(&mut first, "data: ");
    let streams = [first, server.asking(json!({"stream": true}))];
    let whole = [server.asking(json!({})), server.asking(json!({"n": 2}))];
    server.process.signal("TERM");
    for client in streams {
        let response = rest(client);
        assert!(
            response.contains("data: {\"error\":") && !response.contains("[DONE]"),
            "{response}"
        );
    }
    whole.into_iter().for_each(|client| stopped(&rest(client)));
    let said = server.end();
    assert_eq!(
        said,
        "Stopping: 4 requests in progress may take 0 s, a second signal stops at once\n"
    );
}

/// After the first signal answers in progress are completed, and new requests are refused.
#[test]
fn answers_in_progress_are_completed() {
    let server = Server::start(&[]);
    let mut streams = [
        server.asking(json!({"stream": true, "max_tokens": 300})),
        server.asking(json!({"max_tokens": 300})),
    ];
    read_until(&mut streams[0], "data: ");
    server.process.signal("TERM");
    let get = |path: &str| {
        rest(server.client(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )))
    };
    while get("/ready").starts_with("HTTP/1.1 200") {}
    let health = get("/health");
    assert!(health.is_empty() || health.starts_with("HTTP/1.1 200"), "{health}");
    let [stream, whole] = streams.map(rest);
    assert!(stream.contains("[DONE]") && !stream.contains("error"), "{stream}");
    assert!(whole.starts_with("HTTP/1.1 200") && whole.contains("\"length\""), "{whole}");
    let said = server.end();
    assert!(said.contains("2 requests in progress may take 30 s"), "{said}");
}
