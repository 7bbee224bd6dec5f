//! `colm serve` as a process.

use std::io;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStderr, Command, Stdio};

use colm_testing::random_model::with;
use serde_json::{json, Value};

use super::{Running, COLM, MINUTE, MODEL};

/// A server, usually on a free port.
pub struct Server {
    pub process: Running,
    pub address: SocketAddr,
    pub stderr: BufReader<ChildStderr>,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(0, arguments)
    }

    /// A server on `port`; 0 is any free port.
    pub fn start_at(port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new(COLM);
        command.args(["serve", "-m", MODEL, "--kv-cache-mb", "16", "-p", &port.to_string()]);
        command.args(arguments);
        let mut process = Running::start(command.stderr(Stdio::piped()));
        let mut stderr = BufReader::new(process.0.stderr.take().unwrap());
        let (mut line, mut models) = (String::new(), String::new());
        stderr.read_line(&mut line).unwrap();
        stderr.read_line(&mut models).unwrap();
        let address = line.split("://").nth(1).and_then(|rest| rest.split("/v1").next());
        let address = address.and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("{line}{models}")), stderr }
    }

    /// A client that has sent `begin`.
    pub fn client(&self, begin: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(MINUTE)).unwrap();
        client.write_all(begin.as_bytes()).unwrap();
        client
    }

    /// A client that has sent a request without its body of `bytes` bytes.
    pub fn client_without_body(&self, bytes: usize) -> TcpStream {
        let mut client = self.client(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {bytes}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert!(read_until(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 100"));
        client
    }

    /// A client that has sent a request for long answers. The server may not have admitted it yet.
    pub fn asking(&self, fields: Value) -> TcpStream {
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

    /// A client whose stream is larger than the buffers of its connection, and of which it reads nothing.
    pub fn asking_without_reading(&self) -> TcpStream {
        // 13 MB of events.
        let large = json!({"n": 16, "max_tokens": 500, "logprobs": true, "top_logprobs": 20});
        self.asking(with(large, |fields| fields["stream"] = true.into()))
    }

    /// Whether it takes connections.
    pub fn is_running(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// The response to a GET request, and the end of its connection.
    pub fn get(&self, path: &str) -> String {
        rest(self.client(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )))
    }

    /// The value of a metric, named with its labels.
    pub fn metric(&self, name: &str) -> f64 {
        value(&self.get("/metrics"), name)
    }

    /// How many answers run or wait.
    pub fn answers(&self) -> f64 {
        let metrics = self.get("/metrics");
        value(&metrics, "colm:num_requests_running") + value(&metrics, "colm:num_requests_waiting")
    }

    /// Waits for the end of the server, which must exit with 0; its stderr since it listens.
    pub fn end(mut self) -> String {
        assert_eq!(self.process.code(), Some(0));
        let said = io::read_to_string(self.stderr).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}

fn value(metrics: &str, name: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
}

/// Reads until `end`.
pub fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
    String::from_utf8(received).unwrap()
}

/// Reads until the connection ends or fails.
pub fn rest(mut client: TcpStream) -> String {
    let mut received = Vec::new();
    if let Err(error) = client.read_to_end(&mut received) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    String::from_utf8(received).unwrap()
}
