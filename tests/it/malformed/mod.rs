//! Malformed requests over TCP: none causes a server error, and the next valid request is answered.

mod requests;

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use colm_testing::folders::shipped;
use rand::rngs::StdRng;
use rand::SeedableRng;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use requests::{malformed, odd_value, post, valid_body, RawRequest, CHAT, PATHS};

/// The number of malformed requests.
const REQUESTS: usize = 10_000;

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

/// The status of the response to `request`; `None` if the connection was closed without one.
async fn status_of(address: SocketAddr, request: &RawRequest) -> Option<u16> {
    let answered = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer before it has read everything.
        let _ = stream.write_all(&request.bytes).await;
        if request.closes {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), answered).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer to {:?}", shown(request)));
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    line.split(' ').nth(1).and_then(|status| status.parse().ok())
}

fn shown(request: &RawRequest) -> String {
    String::from_utf8_lossy(&request.bytes[..request.bytes.len().min(600)]).into_owned()
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
        let request = malformed(&mut rng);
        let status = status_of(address, &request).await;
        assert!(status.is_none_or(|status| status < 500), "{status:?} to {}", shown(&request));
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
        for field in valid_body(path).as_object().unwrap().keys() {
            for _ in 0..12 {
                let mut body = valid_body(path);
                body[field] = odd_value(&mut rng);
                let request = post(path, body.to_string().as_bytes());
                let status = status_of(address, &request).await.unwrap();
                assert!(
                    status == 200 || (400..500).contains(&status),
                    "{status}: {}",
                    shown(&request)
                );
            }
        }
    }
    valid_request_is_answered(address).await;
}
