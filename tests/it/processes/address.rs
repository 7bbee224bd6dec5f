//! The address that the server listens on.

use std::net::TcpListener;

use super::server::{rest, Server};
use super::{colm, MODEL, PLAIN};

#[test]
fn the_server_listens_on_the_given_address() {
    let mut hosts = vec!["localhost", "127.0.0.1", "0.0.0.0"];
    // Some machines have no IPv6.
    hosts.extend(TcpListener::bind("[::1]:0").map(|_| "::1"));
    for host in hosts {
        let server = Server::start(&["--host", host, "--no-auth"]);
        let client =
            server.client("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let response = rest(client);
        assert!(response.starts_with("HTTP/1.1 200"), "{host}: {response}");
    }
}

#[test]
fn the_error_names_the_address_that_cannot_be_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for host in ["127.0.0.1", "localhost"] {
        let ended = colm(PLAIN, &["serve", "-m", MODEL, "--host", host, "-p", &port]);
        ended.refused_with(&format!(
            "--port {port}: 127.0.0.1:{port} is in use: expected another port"
        ));
    }
    let ended = colm(PLAIN, &["serve", "-m", MODEL, "-p", "0", "--metrics-port", &port]);
    ended.refused_with(&format!("--metrics-port {port}: 127.0.0.1:{port} is in use"));
    for host in ["no-such-host.invalid", "", "1.2.3.4.5"] {
        let ended = colm(PLAIN, &["serve", "-m", MODEL, "--host", host, "-p", "0"]);
        ended.refused_with(&format!("--host {host}: no such host"));
    }
    // An address from the range for documentation, which no machine has.
    let ended = colm(PLAIN, &["serve", "-m", MODEL, "--host", "192.0.2.1", "-p", "0"]);
    ended.refused_with("cannot listen on 192.0.2.1");
}

/// Other machines need a key, unless the operator says that something else keeps them away.
#[test]
fn an_address_beyond_this_machine_needs_a_key() {
    let refused = colm(PLAIN, &["serve", "-m", MODEL, "--host", "0.0.0.0", "-p", "0"]);
    refused.refused_with("--host 0.0.0.0: other machines could use the server without a key");
    let server = Server::start(&["--host", "0.0.0.0", "--api-key", "a-key-of-20-letters!"]);
    let ask = |path: &str, key: &str| {
        rest(server.client(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}Connection: close\r\n\r\n"
        )))
    };
    assert!(ask("/health", "").starts_with("HTTP/1.1 200"));
    assert!(ask("/v1/models", "").starts_with("HTTP/1.1 401"));
    let with_key = ask("/v1/models", "Authorization: Bearer a-key-of-20-letters!\r\n");
    assert!(with_key.starts_with("HTTP/1.1 200"), "{with_key}");
    let short = colm(PLAIN, &["serve", "-m", MODEL, "--api-key", "short", "-p", "0"]);
    short.refused_with("--api-key: a key of 5 characters: expected at least 16");
    assert!(!short.stderr.contains("short,"));
}
