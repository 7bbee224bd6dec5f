//! The server of the README, and the requests it shows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use crate::commands::command;
use crate::document::{block_after, program, root};

/// The address that the README gives the server.
const ADDRESS: &str = "http://127.0.0.1:1234";

/// `colm serve` as the README starts it, but on a free port.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut words = command("colm serve -m models/tiny-colm-air");
        let port = words.iter().position(|word| word == "1234").expect("the README names the port");
        words[port] = "0".into();
        let mut process = Command::new(program("colm"))
            .args(&words[1..])
            .current_dir(root())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = Regex::new(r"http://([0-9.:]+)/v1").unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            address.captures(&line).map(|found| found[1].parse().unwrap())
        });
        // Reads until the server ends, so that its messages do not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(address) = address else {
            panic!("{words:?} does not say where it listens: {:?}", process.wait());
        };
        Self { process, address }
    }

    /// The status and the body of the answer.
    fn send(&self, method: &str, path: &str, headers: &[String], body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Before 1.1 the body ends with the connection.
        let mut request = format!("{method} {path} HTTP/1.0\r\nhost: {}\r\n", self.address);
        headers.iter().for_each(|header| request += &format!("{header}\r\n"));
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
    }

    /// Sends what the `curl` command of the README sends, its body changed by `change`.
    fn curl(&self, change: impl FnOnce(&mut Value)) -> (u16, String) {
        let words = command("curl ");
        let (mut url, mut headers, mut body) = (None, Vec::new(), None);
        let mut rest = words[1..].iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "-H" => headers.push(rest.next().unwrap().clone()),
                "-d" => body = rest.next(),
                word if !word.starts_with('-') => url = Some(word),
                _ => panic!("{words:?}: {word}"),
            }
        }
        let path = url.and_then(|url| url.strip_prefix(ADDRESS)).expect("the URL of the server");
        let mut body: Value = serde_json::from_str(body.expect("a body")).unwrap();
        change(&mut body);
        self.send("POST", path, &headers, &body.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Fails unless `found` has all that `expected` has.
fn assert_has(found: &Value, expected: &Value) {
    match expected {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| assert_has(&found[name], value));
        }
        Value::Array(values) => {
            assert_eq!(found.as_array().map(Vec::len), Some(values.len()), "{found}");
            values.iter().enumerate().for_each(|(at, value)| assert_has(&found[at], value));
        }
        _ => assert_eq!(found, expected),
    }
}

#[test]
fn the_server_answers_as_printed() {
    let server = Server::start();
    let expected: Value = serde_json::from_str(&block_after("curl ", "json")).unwrap();
    let (status, answer) = server.curl(|_| ());
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_has(&answer, &expected);

    // The field `chains` says the same as the model id.
    let (_, by_field) = server.curl(|body| {
        let (name, k) = body["model"].as_str().unwrap().split_once('@').unwrap();
        let (name, k) = (name.to_string(), k.parse::<u32>().unwrap());
        (body["model"], body["chains"]) = (name.into(), k.into());
    });
    assert_has(&serde_json::from_str(&by_field).unwrap(), &expected);

    let (status, stream) = server.curl(|body| body["stream"] = true.into());
    assert_eq!(status, 200, "{stream}");
    assert!(
        stream.starts_with("data: {") && stream.trim_end().ends_with("data: [DONE]"),
        "{stream}"
    );

    let (status, docs) = server.send("GET", "/docs/", &[], "");
    assert!(status == 200 && docs.contains("swagger"), "{status}: {docs}");
}
