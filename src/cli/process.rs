//! What colm needs of the system. Libraries panic where it is missing, so it is looked for first.

use std::sync::Mutex;
use std::thread;

use anyhow::{bail, Context, Result};
use tokio::runtime::{Builder, Runtime};

/// As many open files as colm needs, with room for some connections.
const FEWEST_FILES: u64 = 64;

/// A runtime, in a process that has what the engine needs.
pub fn runtime() -> Result<Runtime> {
    raise_file_limit()?;
    check_threads()?;
    check_home()?;
    Builder::new_multi_thread().enable_all().build().context("cannot wait for the system's events")
}

/// Allows as many open files as the system lets us have. Each connection to the server is one.
fn raise_file_limit() -> Result<()> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < FEWEST_FILES => bail!(
            "at most {limit} files may be open, and colm needs {FEWEST_FILES}: see `ulimit -n`"
        ),
        // A limit that cannot be told may be large enough.
        _ => Ok(()),
    }
}

/// Starts as many threads at once as the engine does, and lets them end.
fn check_threads() -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // One per core in two runtimes and in the kernels' pool; the others are few.
    let count = 3 * cores + 8;
    let gate = Mutex::new(());
    let started = thread::scope(|scope| {
        let closed = gate.lock();
        let start = |_| thread::Builder::new().spawn_scoped(scope, || drop(gate.lock())).map(drop);
        let started = (0..count).try_for_each(start);
        drop(closed);
        started
    });
    started
        .with_context(|| format!("cannot start {count} threads: see `ulimit -u` and `ulimit -v`"))
}

/// Models of the Hugging Face hub are kept there.
fn check_home() -> Result<()> {
    match dirs::home_dir() {
        Some(_) => Ok(()),
        None => bail!("this user has no home folder: set the variable HOME to a folder"),
    }
}
