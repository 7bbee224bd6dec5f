//! The Python interpreter that runs llama.cpp.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

use super::shape::Weights;

/// The Python interpreter for llama-cpp-python.
pub struct Python {
    interpreter: String,
}

impl Python {
    /// The interpreter that COLM_BENCH_PYTHON names; `python3` by default.
    pub fn from_env() -> Self {
        let interpreter = env::var("COLM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
        Self { interpreter }
    }

    /// The interpreter without arguments.
    pub fn command(&self) -> Command {
        Command::new(&self.interpreter)
    }

    /// A script of `benches/`.
    pub fn script(&self, name: &str) -> Command {
        let mut command = self.command();
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name));
        command
    }

    /// The version of llama-cpp-python and the instruction sets that it was built for; an error if it is not installed.
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

    /// Writes a GGUF file with random weights to `path`. It has the vocabulary of `tokenizer`, a tokenizer.json of
    /// single characters, or only numbers its tokens.
    pub fn write_gguf(
        &self,
        path: &Path,
        config: &Value,
        weights: Weights,
        tokenizer: Option<&Path>,
    ) -> Result<()> {
        let what = json!({
            "path": path, "config": config, "weights": weights, "tokenizer": tokenizer,
        });
        let output = self.script("random_gguf.py").args(["write", &what.to_string()]).output()?;
        if !output.status.success() {
            bail!("random_gguf.py: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}
