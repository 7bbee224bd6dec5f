//! An HTTP server as a process, for benchmarks.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{bail, Context, Result};

/// How many of the last lines on stderr are kept for error messages.
const KEPT_LINES: usize = 20;

/// A server that is killed when this is dropped.
pub struct ServerProcess {
    process: Child,
    /// Host and port.
    address: String,
    last_lines: Lines,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl ServerProcess {
    /// Starts `command` and waits until a line on its stderr has an address, such as `http://127.0.0.1:1234/v1`. What it
    /// writes later is read and forgotten, except for the last lines.
    ///
    /// # Errors
    /// If the process ends before that. The message has its last lines.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut process =
            command.stderr(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let stderr = process.stderr.take().context("the process has no stderr")?;
        let last_lines = Lines::default();
        let (found, address) = channel();
        let lines = last_lines.clone();
        thread::spawn(move || lines.follow(stderr, found));
        let mut server = Self { process, address: String::new(), last_lines };
        match address.recv() {
            Ok(address) => server.address = address,
            Err(_) => bail!("the server did not start:\n{}", server.last_lines),
        }
        Ok(server)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails if the process has ended. The message has its last lines.
    pub fn check(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server has ended: {status}\n{}", self.last_lines),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Lines {
    /// Reads `stderr` to its end, and sends the addresses in it.
    fn follow(self, stderr: ChildStderr, found: Sender<String>) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // Nobody waits for a second one.
                let _ = found.send(address.to_string());
            }
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }
}

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Host and port of the first URL in `line`.
fn address_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("http://")?;
    rest.split(['/', ' ', ',']).next().filter(|address| address.contains(':'))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<ServerProcess> {
        ServerProcess::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn the_address_is_read_from_stderr() {
        let script =
            "echo loading >&2; echo at http://127.0.0.1:80/v1, http://b:1 >&2; exec sleep 60";
        let mut server = shell(script).unwrap();
        assert_eq!(server.address(), "127.0.0.1:80");
        server.check().unwrap();
    }

    #[test]
    fn an_error_has_the_last_lines() {
        let error = shell("echo out of memory >&2; exit 1").err().unwrap().to_string();
        assert!(error.contains("out of memory"), "{error}");
        let mut server = shell("echo http://127.0.0.1:80 >&2; echo bye >&2; exit 3").unwrap();
        while server.check().is_ok() {}
        let error = server.check().unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn addresses_end_where_a_path_or_a_word_ends() {
        assert_eq!(address_in("running on http://[::1]:8000 (press)"), Some("[::1]:8000"));
        assert_eq!(address_in("see https://example.org"), None);
        assert_eq!(address_in("no address"), None);
    }
}
