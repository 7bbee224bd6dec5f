//! Slow and idle clients.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{read_until, rest, Server};
use super::wait_until;

const TIMEOUTS: [&str; 8] = [
    "--header-timeout",
    "1",
    "--body-timeout",
    "1",
    "--keep-alive-timeout",
    "1",
    "--send-timeout",
    "1",
];

/// Waits until `client` has been closed by the server; what it received, and after how long.
fn closed(client: TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let received = rest(client);
    (received, began.elapsed())
}

#[test]
fn slow_and_idle_clients_are_disconnected() {
    let server = Server::start(&TIMEOUTS);
    let silent = server.client("");
    let half_a_head = server.client("POST /v1/chat/completions HTTP/1.1\r\nHost: local");
    let mut half_a_body = server.client_without_body(100);
    half_a_body.write_all(b"{\"messages\":").unwrap();
    let mut kept_alive = server.client("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut kept_alive, r#"{"status":"ok"}"#);
    for client in [silent, half_a_head, kept_alive] {
        let (received, after) = closed(client);
        assert_eq!(received, "");
        assert!(after < Duration::from_secs(20), "{after:?}");
    }
    let (received, _) = closed(half_a_body);
    assert!(received.starts_with("HTTP/1.1 408"), "{received}");
}

/// A request takes as long as it takes: the limits are for clients.
#[test]
fn a_connection_with_a_request_in_progress_is_not_idle() {
    let server = Server::start(&TIMEOUTS);
    let client = server.asking(json!({"max_tokens": 900}));
    assert!(rest(client).starts_with("HTTP/1.1 200"));
}

/// Hundreds of slow connections do not keep a good request from its answer.
#[test]
fn slow_clients_do_not_delay_others() {
    let timeouts = ["--header-timeout", "3", "--body-timeout", "3", "--keep-alive-timeout", "1"];
    let server = Server::start(&timeouts);
    let heads: Vec<TcpStream> =
        (0..250).map(|_| server.client("POST /v1/chat/completions HTTP/1.1\r\nHo")).collect();
    let bodies: Vec<TcpStream> = (0..250)
        .map(|_| {
            server.client(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 1000\r\n\r\n{\"messages\":",
            )
        })
        .collect();
    let good = server.asking(json!({"max_tokens": 3}));
    assert!(rest(good).starts_with("HTTP/1.1 200"));
    heads.into_iter().for_each(|client| assert_eq!(rest(client), ""));
    for client in bodies {
        let response = rest(client);
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 408"), "{response}");
    }
    assert!(rest(server.asking(json!({"max_tokens": 3}))).starts_with("HTTP/1.1 200"));
}

/// A client that stops reading delays nobody. After a while it loses its connection, and its answers end.
#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let server = Server::start(&["--send-timeout", "1", "--keep-alive-timeout", "1"]);
    let silent = server.asking_without_reading();
    let running = || server.metric("colm:num_requests_running");
    wait_until("the answers begin", || running() == 16.0);
    assert!(rest(server.asking(json!({"max_tokens": 3}))).starts_with("HTTP/1.1 200"));
    let abandoned = r#"colm:request_success_total{chains="4",finished_reason="abort"}"#;
    wait_until("the answers are abandoned", || server.metric(abandoned) == 16.0);
    wait_until("the answers end", || running() == 0.0);
    let received = rest(silent);
    assert!(received.starts_with("HTTP/1.1 200") && !received.contains("[DONE]"));
}

/// More connections than allowed wait; they are not refused.
#[test]
fn connections_are_bounded() {
    let server = Server::start(&["--max-connections", "2", "--header-timeout", "1"]);
    let silent: Vec<TcpStream> = (0..2).map(|_| server.client("")).collect();
    let waiting =
        server.client("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(rest(waiting).starts_with("HTTP/1.1 200"));
    silent.into_iter().for_each(|client| assert_eq!(rest(client), ""));
}
