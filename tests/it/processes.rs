//! The `colm` binary as a process: closed, full or missing streams, limits, and signals.

#![cfg(unix)]

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

const COLM: &str = env!("CARGO_BIN_EXE_colm");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-colm-air");
const MINUTE: Duration = Duration::from_secs(60);

/// A shell script line that calls colm with the script's arguments.
const PLAIN: &str = r#"exec "$0" "$@""#;

/// Arguments for a chat with short answers; with a prompt, for one answer.
const CHAT: [&str; 7] = ["run", "-m", MODEL, "--kv-cache-mb", "16", "--max-tokens", "4"];
const ANSWER: [&str; 9] =
    ["run", "-m", MODEL, "--kv-cache-mb", "16", "--max-tokens", "4", "-i", "hello"];

/// A process that is killed at the end of its test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Waits for the end of the process; its exit code.
    fn code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < MINUTE, "the process does not end");
            sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The output of a process and its exit code.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn refused_with(&self, reason: &str) {
        let clean = self.stderr.contains("colm: error: ") && self.stderr.contains(reason);
        assert!(self.code == Some(1) && clean, "expected `{reason}`: {self:?}");
    }
}

/// Runs colm in a shell with `script` and `arguments`. It must not panic.
fn colm(script: &str, arguments: &[&str]) -> Ended {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, COLM]).args(arguments).stdin(Stdio::null());
    ended(shell.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

fn ended(command: &mut Command) -> Ended {
    let mut process = Running::start(command);
    let code = process.code();
    let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
    let ended = Ended {
        code,
        stdout: stdout.map(|pipe| io::read_to_string(pipe).unwrap()).unwrap_or_default(),
        stderr: stderr.map(|pipe| io::read_to_string(pipe).unwrap()).unwrap_or_default(),
    };
    assert!(code.is_some_and(|code| code < 2), "{command:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{command:?}: {ended:?}");
    ended
}

#[test]
#[cfg(target_os = "linux")]
fn run_works_without_stderr() {
    let usual = colm(PLAIN, &ANSWER);
    assert!(usual.code == Some(0) && usual.stdout.len() > 1, "{usual:?}");
    for stderr in ["2>/dev/full", "2>&-"] {
        for log in ["warn", "trace", "=,="] {
            let ended = colm(&format!("export RUST_LOG={log}; {PLAIN} {stderr}"), &ANSWER);
            let as_usual = ended.code == Some(0) && ended.stdout == usual.stdout;
            assert!(as_usual, "{log} {stderr}: {ended:?}");
        }
        let wrong = colm(&format!("{PLAIN} {stderr}"), &["run", "-m", "no-such-folder"]);
        assert_eq!(wrong.code, Some(1), "{wrong:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_stdout_is_an_error() {
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(&text, "a text to score").unwrap();
    let text = text.path().to_str().unwrap();
    for arguments in [
        &ANSWER[..],
        &["perplexity", "-m", MODEL, "--chains", "1", "-f", text],
        &["bench", "-m", MODEL, "--chains", "1", "-p", "4", "-n", "1", "--runs", "1"],
        &["serve", "--help"],
        &["--version"],
    ] {
        colm(&format!("{PLAIN} >/dev/full"), arguments).refused_with("cannot write to stdout");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    for arguments in [&ANSWER[..], &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = ended(Command::new(COLM).args(arguments).stdout(writer).stderr(Stdio::piped()));
        assert!(ended.code == Some(0) && ended.stderr.is_empty(), "{ended:?}");
    }
}

#[test]
fn the_limit_of_open_files_is_raised_or_reported() {
    for files in [8, 10, 12, 16, 20, 32, 63] {
        let ended = colm(&format!("ulimit -n {files}; {PLAIN}"), &ANSWER);
        ended.refused_with(&format!("{files} files"));
        ended.refused_with("ulimit -n");
    }
    for enough in ["ulimit -n 64", "ulimit -S -n 8"] {
        let ended = colm(&format!("{enough}; {PLAIN}"), &ANSWER);
        assert_eq!(ended.code, Some(0), "{enough}: {ended:?}");
    }
}

#[test]
fn run_works_without_home_directory_and_locale() {
    let usual = colm(PLAIN, &ANSWER).stdout;
    let gone = r#"gone=$(mktemp -d) && cd "$gone" && rmdir "$gone""#;
    let poor = "export HOME=/dev/null/none TMPDIR=/dev/null/none LC_ALL=C";
    for surroundings in [gone, poor, "unset HOME"] {
        let ended = colm(&format!("{surroundings}; {PLAIN}"), &ANSWER);
        let as_usual = ended.code == Some(0) && ended.stdout == usual;
        assert!(as_usual, "{surroundings}: {ended:?}");
    }
}

#[test]
fn input_that_is_not_utf8_ends_a_chat() {
    let garbage = tempfile::NamedTempFile::new().unwrap();
    fs::write(&garbage, b"hello\n\xff\xfe\x00\nhello\n").unwrap();
    let path = garbage.path().to_str().unwrap();
    let ended = colm(&format!("{PLAIN} <'{path}'"), &CHAT);
    ended.refused_with("UTF-8");
    assert_eq!(ended.stdout, colm(PLAIN, &ANSWER).stdout, "earlier lines are answered");
    colm(&format!("{PLAIN} </"), &CHAT).refused_with("stdin");
    for empty in ["<&-", "</dev/null"] {
        let ended = colm(&format!("{PLAIN} {empty}"), &CHAT);
        assert!(ended.code == Some(0) && ended.stdout.is_empty(), "{ended:?}");
    }
}

/// A server on a free port.
struct Server {
    process: Running,
    address: SocketAddr,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(COLM);
        command.args(["serve", "-m", MODEL, "--kv-cache-mb", "16", "-p", "0"]).args(arguments);
        let mut process = Running::start(command.stderr(Stdio::piped()));
        let mut stderr = BufReader::new(process.0.stderr.take().unwrap());
        let (mut line, mut models) = (String::new(), String::new());
        stderr.read_line(&mut line).unwrap();
        stderr.read_line(&mut models).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next());
        let address = address.and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("{line}{models}")), stderr }
    }

    /// A client that has sent `begin`.
    fn client(&self, begin: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(MINUTE)).unwrap();
        client.write_all(begin.as_bytes()).unwrap();
        client
    }

    /// A client that has sent a request without its body of `bytes` bytes.
    fn client_without_body(&self, bytes: usize) -> TcpStream {
        let mut client = self.client(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {bytes}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert!(read_until(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 100"));
        client
    }

    /// A client whose request for long answers is in progress.
    fn asking(&self, fields: Value) -> TcpStream {
        // The end token of the model is 0.
        let mut body = json!({
            "messages": [{"role": "user", "content": "hello"}],
            "logit_bias": {"0": -100},
        });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let body = body.to_string();
        let mut client = self.client_without_body(body.len());
        client.write_all(body.as_bytes()).unwrap();
        client
    }

    /// Waits for the end of the server, which must exit with 0; its stderr since it listens.
    fn end(mut self) -> String {
        assert_eq!(self.process.code(), Some(0));
        let said = io::read_to_string(self.stderr).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}

/// Reads until `end`.
fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
    String::from_utf8(received).unwrap()
}

/// Reads until the connection ends or fails.
fn rest(mut client: TcpStream) -> String {
    let mut received = Vec::new();
    if let Err(error) = client.read_to_end(&mut received) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    String::from_utf8(received).unwrap()
}

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
    assert!(server.end().contains("Closing connections"));
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
    let server = Server::start(&["--max-seqs", "1"]);
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
    assert_eq!(server.end(), "Stopping\n");
}

#[test]
fn the_server_listens_on_the_given_address() {
    let mut hosts = vec!["localhost", "127.0.0.1", "0.0.0.0"];
    // Some machines have no IPv6.
    hosts.extend(TcpListener::bind("[::1]:0").map(|_| "::1"));
    for host in hosts {
        let server = Server::start(&["--host", host]);
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
    for host in ["no-such-host.invalid", "", "1.2.3.4.5"] {
        let ended = colm(PLAIN, &["serve", "-m", MODEL, "--host", host, "-p", "0"]);
        ended.refused_with(&format!("--host {host}: no such host"));
    }
    // An address from the range for documentation, which no machine has.
    let ended = colm(PLAIN, &["serve", "-m", MODEL, "--host", "192.0.2.1", "-p", "0"]);
    ended.refused_with("cannot listen on 192.0.2.1");
}
