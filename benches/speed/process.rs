//! The worker process of a contender.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{bail, Context, Result};
use serde::Serialize;

use super::protocol::{Batch, EngineKind, Reply, Start, Timing};
use super::python::Python;

/// A process with a loaded model that waits for requests. Dropping this ends the process.
pub struct WorkerProcess {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Time to load the model, in milliseconds.
    pub load_ms: f64,
    log: PathBuf,
}

/// The timings of a batch, and the peak memory of the process so far.
pub struct Answers {
    pub times: Vec<Timing>,
    pub peak_mib: Option<f64>,
}

impl WorkerProcess {
    /// Starts a process and loads the model of `start`. The process writes its standard error to the file `log`.
    pub fn start(start: &Start, python: &Python, log: &Path) -> Result<Self> {
        let mut command = match start.engine {
            EngineKind::LlamaCpp => python.script("llama_cpp_worker.py"),
            EngineKind::Colm | EngineKind::HostLlama => {
                let mut command = Command::new(env::current_exe()?);
                command.arg("worker");
                command
            }
        };
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut process = piped.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("the process has no standard output")?;
        let (output, log) = (BufReader::new(output), log.to_owned());
        let mut worker = Self { process, input, output, load_ms: 0., log };
        match worker.send(start)? {
            Reply::Ready { load_ms } => worker.load_ms = load_ms,
            Reply::Answers { .. } => bail!("the process answered before the first request"),
            Reply::Error(error) => bail!("{error}"),
        }
        Ok(worker)
    }

    /// Sends all requests of `batch` at once and waits for their answers.
    pub fn run(&mut self, batch: &Batch) -> Result<Answers> {
        match self.send(batch)? {
            Reply::Answers { answers: times, peak_mib } => Ok(Answers { times, peak_mib }),
            Reply::Ready { .. } => bail!("the process loaded a model a second time"),
            Reply::Error(error) => bail!("{error}"),
        }
    }

    fn send(&mut self, line: &impl Serialize) -> Result<Reply> {
        let input = self.input.as_mut().context("the process was told to end")?;
        writeln!(input, "{}", serde_json::to_string(line)?).with_context(|| self.exit_message())?;
        let mut reply = String::new();
        if self.output.read_line(&mut reply)? == 0 {
            bail!("{}", self.exit_message());
        }
        serde_json::from_str(&reply).with_context(|| format!("not a reply: {reply}"))
    }

    fn exit_message(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last =
            log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote no message");
        format!("the process ended: {last}")
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // The process ends when its input is closed.
        self.input = None;
        // An error means that it has ended already.
        let _ = self.process.wait();
    }
}
