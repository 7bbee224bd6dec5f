//! The other end of a contender's process, and the Python that llama.cpp runs in.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{bail, Context, Result};
use serde::Serialize;
use serde_json::{json, Value};

use super::protocol::{EngineKind, Reply, Start, Task, Times};
use super::shape::Weights;

/// A contender that is loaded and waits for tasks. Its process ends with it.
pub struct Peer {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it took to load, in milliseconds.
    pub load_ms: f64,
    log: PathBuf,
}

/// The answers to a task, and the most memory that the process has had so far.
pub struct Answers {
    pub times: Vec<Times>,
    pub peak_mib: Option<f64>,
}

impl Peer {
    /// Starts a process that loads `start`; what it says on its standard error goes to the file `log`.
    pub fn start(start: &Start, python: &Python, log: &Path) -> Result<Self> {
        let mut command = match start.engine {
            EngineKind::LlamaCpp => python.script("llama_peer.py"),
            EngineKind::Colm | EngineKind::HostLlama => {
                let mut command = Command::new(env::current_exe()?);
                command.arg("worker");
                command
            }
        };
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut process = piped.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("a process without output")?;
        let (output, log) = (BufReader::new(output), log.to_owned());
        let mut peer = Self { process, input, output, load_ms: 0., log };
        match peer.ask(start)? {
            Reply::Ready { load_ms } => peer.load_ms = load_ms,
            Reply::Answers { .. } => bail!("an answer before the first task"),
            Reply::Error(error) => bail!("{error}"),
        }
        Ok(peer)
    }

    /// Runs `task` to its end.
    pub fn run(&mut self, task: &Task) -> Result<Answers> {
        match self.ask(task)? {
            Reply::Answers { answers: times, peak_mib } => Ok(Answers { times, peak_mib }),
            Reply::Ready { .. } => bail!("a model is loaded once"),
            Reply::Error(error) => bail!("{error}"),
        }
    }

    fn ask(&mut self, line: &impl Serialize) -> Result<Reply> {
        let input = self.input.as_mut().context("the process has been told to end")?;
        writeln!(input, "{}", serde_json::to_string(line)?).with_context(|| self.last_words())?;
        let mut reply = String::new();
        if self.output.read_line(&mut reply)? == 0 {
            bail!("{}", self.last_words());
        }
        serde_json::from_str(&reply).with_context(|| format!("not a reply: {reply}"))
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("silently");
        format!("the process ended: {last}")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        self.input = None;
        // An error says that it has ended already.
        let _ = self.process.wait();
    }
}

/// The Python interpreter that has llama-cpp-python, if any has.
pub struct Python {
    interpreter: String,
}

impl Python {
    /// What the variable COLM_BENCH_PYTHON names; python3 by default.
    pub fn from_env() -> Self {
        let interpreter = env::var("COLM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
        Self { interpreter }
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name));
        command
    }

    /// The version of llama.cpp's Python package and what its processor code was built for; an error
    /// in words if it is not there.
    pub fn llama_cpp(&self) -> Result<String> {
        let output = self.script("random_gguf.py").arg("check").output();
        let output = output.with_context(|| format!("cannot start {}", self.interpreter))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = error.lines().last().unwrap_or_default().to_owned();
            bail!("not installed for {} ({last}); see benches/README.md", self.interpreter);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Writes a model with random weights in llama.cpp's format to `path`.
    pub fn write_gguf(&self, path: &Path, config: &Value, weights: Weights) -> Result<()> {
        let what = json!({ "path": path, "config": config, "weights": weights });
        let output = self.script("random_gguf.py").args(["write", &what.to_string()]).output()?;
        if !output.status.success() {
            bail!("random_gguf.py: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}
