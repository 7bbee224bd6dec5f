//! The servers that are compared, and their models.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use colm_checkpoint::Architecture;
use colm_testing::server_process::ServerProcess;
use serde_json::{json, Map, Value};
use tempfile::TempDir;

use super::checkpoint::write_colm;
use super::python::Python;
use super::shape::{Setting, Shape, Weights};

/// A server with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The Llama in the server of llama-cpp-python.
    LlamaCpp,
    /// The same shape in colm.
    Dense,
    /// A CoLM-Air of the same width with four equal chains, at k chains.
    Air(usize),
}

impl Contender {
    pub const ALL: [Self; 6] =
        [Self::LlamaCpp, Self::Dense, Self::Air(4), Self::Air(3), Self::Air(2), Self::Air(1)];

    pub fn name(self) -> String {
        match self {
            Self::LlamaCpp => "llama.cpp".into(),
            Self::Dense => "colm [1]".into(),
            Self::Air(k) => format!("Air [1, 1, 1, 1] at k = {k}"),
        }
    }

    /// The model id in requests.
    pub fn model_id(self) -> String {
        match self {
            Self::LlamaCpp => "llama".into(),
            Self::Dense => "dense".into(),
            Self::Air(k) => format!("air@{k}"),
        }
    }
}

/// The version of llama-cpp-python; an error if it or its server is not installed.
pub fn llama_cpp_server() -> Result<String> {
    let python = Python::from_env();
    let version = python.llama_cpp()?;
    let output = python.command().args(["-c", "import llama_cpp.server.app, uvicorn"]).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no server: {}", error.lines().last().unwrap_or_default());
    Ok(version)
}

/// The models of a run, in a folder that is removed at its end.
pub struct Models {
    folder: TempDir,
    python: Python,
}

impl Models {
    /// Writes the models of `contenders`.
    pub fn write(contenders: &[Contender]) -> Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let models = Self { folder, python: Python::from_env() };
        let dense = SETTING.config(Architecture::Colm, &[1]);
        write(&models.dense(), dense.clone())?;
        write(&models.air(), SETTING.config(Architecture::ColmAir, &[1; 4]))?;
        if contenders.contains(&Contender::LlamaCpp) {
            let tokenizer = models.dense().join("tokenizer.json");
            let (python, weights) = (&models.python, SETTING.weights);
            python.write_gguf(&models.gguf(), &dense, weights, Some(&tokenizer))?;
        }
        Ok(models)
    }

    pub fn dense(&self) -> PathBuf {
        self.folder.path().join("dense")
    }

    pub fn air(&self) -> PathBuf {
        self.folder.path().join("air")
    }

    fn gguf(&self) -> PathBuf {
        self.folder.path().join("llama.gguf")
    }

    /// Starts the server of `contender`, whose sequences have up to `longest` tokens.
    pub fn start(&self, contender: Contender, longest: usize) -> Result<ServerProcess> {
        match contender {
            Contender::LlamaCpp => {
                let mut command = self.python.command();
                command.args(LLAMA_CPP).arg("--model").arg(self.gguf());
                let threads = std::thread::available_parallelism()?.to_string();
                command.args(["--n_ctx", &longest.next_multiple_of(256).to_string()]);
                command.args(["--n_threads", &threads, "--n_threads_batch", &threads]);
                // It writes a line per request.
                ServerProcess::start(command.stdout(Stdio::null()))
            }
            Contender::Dense => serve(&self.dense(), &[]),
            Contender::Air(_) => serve(&self.air(), &[]),
        }
    }
}

/// Without the last one, a waiting request would end the stream of the one that runs.
const LLAMA_CPP: [&str; 12] = [
    "-m",
    "llama_cpp.server",
    "--host",
    "127.0.0.1",
    "--port",
    "0",
    "--flash_attn",
    "true",
    "--verbose",
    "false",
    "--interrupt_requests",
    "false",
];

const SETTING: Setting = Setting { shape: Shape::Small, weights: Weights::F32 };

/// `colm serve` with default settings and `arguments`.
pub fn serve(model: &Path, arguments: &[&str]) -> Result<ServerProcess> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colm"));
    ServerProcess::start(command.args(["serve", "-p", "0", "-m"]).arg(model).args(arguments))
}

/// Writes a model without special tokens. Nothing ends an answer early, and every token has a text.
fn write(folder: &Path, mut config: Value) -> Result<()> {
    config["eos_token_id"] = Value::Null;
    write_colm(folder, &config, SETTING.weights)?;
    change(&folder.join("tokenizer.json"), |fields| {
        fields.insert("added_tokens".into(), json!([]))
    })?;
    change(&folder.join("tokenizer_config.json"), |fields| fields.remove("bos_token"))?;
    change(&folder.join("tokenizer_config.json"), |fields| fields.remove("eos_token"))
}

/// Replaces a field of a file, which must be there.
fn change(
    path: &Path,
    change: impl FnOnce(&mut Map<String, Value>) -> Option<Value>,
) -> Result<()> {
    let mut json: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let changed = json.as_object_mut().and_then(change);
    changed.with_context(|| format!("{}: a field is missing", path.display()))?;
    Ok(fs::write(path, json.to_string())?)
}
