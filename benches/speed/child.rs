//! Measurements that each run in a process of their own: the benchmark starts itself again.

use std::process::{Command, Stdio};

use anyhow::{bail, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;

/// Runs this program with `--measure` and `measurement` as JSON; what it writes to stdout.
pub fn child<V: DeserializeOwned>(measurement: &impl Serialize) -> Result<V> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", &serde_json::to_string(measurement)?]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("a measurement has failed");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
