//! Signals end the server.

use std::io::{BufRead, Write};

use serde_json::{json, Value};

use super::server::{read_until, rest, Server};
use super::wait_until;

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
    let streams = [first, server.asking(json!({"stream": true, "n": 16}))];
    let whole = [(); 2].map(|()| server.asking(json!({"n": 16})));
    // Three of the requests have at most 48 answers.
    wait_until("four requests are in progress", || server.answers() > 48.0);
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

/// Repeats `attempt`, which returns what a server said that was to be stopped while it was busy, until it was: where this
/// test is held up, answers may have ended before the signal.
fn until_stopped(busy: &str, attempt: impl Fn() -> String) {
    let mut said = String::new();
    for _ in 0..5 {
        said = attempt();
        if said.contains(busy) {
            return;
        }
        assert!(said.starts_with("Stopping"), "{said}");
    }
    panic!("answers have always ended before the signal: {said}");
}

/// After the first signal answers in progress are completed, and new requests are refused.
#[test]
fn answers_in_progress_are_completed() {
    until_stopped("2 requests in progress may take 30 s", stop_during_two_requests);
}

fn stop_during_two_requests() -> String {
    let server = Server::start(&[]);
    let mut streams = [
        server.asking(json!({"stream": true, "n": 16, "max_tokens": 100})),
        server.asking(json!({"n": 16, "max_tokens": 100})),
    ];
    read_until(&mut streams[0], "data: ");
    // One of the requests has at most 16 answers.
    wait_until("two requests are in progress", || server.answers() > 16.0);
    server.process.signal("TERM");
    while server.is_running() && server.get("/ready").starts_with("HTTP/1.1 200") {}
    if server.is_running() {
        let health = server.get("/health");
        assert!(health.is_empty() || health.starts_with("HTTP/1.1 200"), "{health}");
    }
    let [stream, whole] = streams.map(rest);
    assert!(stream.contains("[DONE]") && !stream.contains("error"), "{stream}");
    assert!(whole.starts_with("HTTP/1.1 200") && whole.contains("\"length\""), "{whole}");
    server.end()
}

/// Whether `stream` is a complete answer.
fn is_complete(stream: &str) -> bool {
    stream.contains("[DONE]") && !stream.contains("error")
}

/// Answers that wait for others are in progress, too.
#[test]
fn a_full_queue_is_drained() {
    until_stopped("6 requests in progress may take 30 s", stop_with_a_full_queue);
}

fn stop_with_a_full_queue() -> String {
    let arguments = ["--max-seqs", "2", "--max-queue", "4", "--keep-alive-timeout", "1"];
    let server = Server::start(&arguments);
    // With many alternatives they take longer.
    let long = json!({"stream": true, "max_tokens": 900, "logprobs": true, "top_logprobs": 20});
    let mut running = [(); 2].map(|()| server.asking(long.clone()));
    running.iter_mut().for_each(|client| drop(read_until(client, "data: ")));
    let streams = [(); 2].map(|()| server.asking(json!({"stream": true, "max_tokens": 50})));
    let whole = [(); 2].map(|()| server.asking(json!({"max_tokens": 50})));
    wait_until("four answers wait", || server.metric("colm:num_requests_waiting") == 4.0);
    // Its connection stays open for a second, in which the answers could end.
    let mut refused = server.asking(json!({}));
    assert_eq!(read_until(&mut refused, "\r\n"), "HTTP/1.1 429 Too Many Requests\r\n");
    server.process.signal("TERM");
    for stream in running.into_iter().chain(streams).map(rest) {
        assert!(is_complete(&stream), "{stream}");
    }
    for answer in whole.map(rest) {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"length\""), "{answer}");
    }
    server.end()
}

/// Answers that end in time are completed. Those that do not, and those that still wait, are refused.
#[test]
fn a_queue_that_takes_too_long_is_refused() {
    let arguments = ["--max-seqs", "1", "--max-queue", "1000", "--drain-timeout", "3"];
    let server = Server::start(&arguments);
    let mut running = server.asking(json!({"stream": true, "max_tokens": 20}));
    read_until(&mut running, "data: ");
    // Each of these is more than the server can compute in the time.
    let waiting = [(); 8].map(|()| server.asking(json!({"n": 16})));
    wait_until("the answers wait", || server.metric("colm:num_requests_waiting") >= 127.0);
    server.process.signal("TERM");
    let stream = rest(running);
    assert!(is_complete(&stream), "{stream}");
    waiting.into_iter().for_each(|client| stopped(&rest(client)));
    let said = server.end();
    assert!(said.contains("requests in progress may take 3 s"), "{said}");
}

#[test]
fn a_client_that_does_not_read_does_not_delay_shutdown() {
    let server = Server::start(&["--drain-timeout", "1", "--send-timeout", "600"]);
    let silent = server.asking_without_reading();
    let running = || server.metric("colm:num_requests_running");
    wait_until("the answers begin", || running() == 16.0);
    // The stream waits for its client.
    wait_until("the answers end", || running() == 0.0);
    server.process.signal("TERM");
    assert_eq!(
        server.end(),
        "Stopping: 1 requests in progress may take 1 s, a second signal stops at once\n\
         Closing connections that are still open\n"
    );
    assert!(!rest(silent).contains("[DONE]"));
}

/// The text of a greedy answer.
fn greedy_answer(server: &Server) -> Value {
    let response = rest(server.asking(json!({"temperature": 0, "max_tokens": 20})));
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response}"));
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    let body: Value = serde_json::from_str(body).unwrap();
    body["choices"][0]["message"]["content"].clone()
}

/// Nothing has to be repaired: a new server at the same address answers as before.
#[test]
fn a_new_server_replaces_one_that_was_killed() {
    let arguments = ["--keep-alive-timeout", "1"];
    let mut server = Server::start(&arguments);
    let answer = greedy_answer(&server);
    let stream = || server.asking(json!({"stream": true, "n": 4}));
    let mut streams: Vec<_> = (0..8).map(|_| stream()).collect();
    streams.iter_mut().for_each(|client| drop(read_until(client, "data: ")));
    server.process.signal("KILL");
    assert_eq!(server.process.code(), None);
    for stream in streams.into_iter().map(rest) {
        assert!(!stream.contains("[DONE]"), "{stream}");
    }
    let server = Server::start_at(server.address.port(), &arguments);
    assert!(server.get("/ready").starts_with("HTTP/1.1 200"));
    assert_eq!(greedy_answer(&server), answer);
}
