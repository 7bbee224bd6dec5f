//! The `colm` binary as a process: closed, full or missing streams, limits, and signals.

#![cfg(unix)]

mod address;
mod connections;
mod doctor;
mod https;
#[cfg(target_arch = "x86_64")]
mod isa_limit;
mod kv_store;
mod run;
mod server;
mod settings;
mod shutdown;

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const COLM: &str = env!("CARGO_BIN_EXE_colm");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-colm-air");
const MINUTE: Duration = Duration::from_secs(60);

/// A shell script line that calls colm with the script's arguments.
const PLAIN: &str = r#"exec "$0" "$@""#;

/// Waits until `done`, for a minute at most.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < MINUTE, "{what}: it takes too long");
        sleep(Duration::from_millis(10));
    }
}

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
