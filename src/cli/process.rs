//! Checks what the process needs from the operating system. Libraries panic if it is missing.

use std::sync::Mutex;
use std::thread;

use anyhow::{bail, Context, Result};
use tokio::runtime::{Builder, Runtime};

/// The number of open files that colm needs, including some connections.
const MIN_OPEN_FILES: u64 = 64;

/// Checks the limits of the process and starts the async runtime.
pub fn runtime() -> Result<Runtime> {
    raise_file_limit()?;
    check_threads()?;
    check_home()?;
    Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
}

/// Raises the limit of open files to the maximum. Each connection to the server is an open file.
fn raise_file_limit() -> Result<()> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < MIN_OPEN_FILES => bail!(
            "the process may open {limit} files: expected at least {MIN_OPEN_FILES} (see `ulimit -n`)"
        ),
        // A limit that cannot be read may be large enough.
        _ => Ok(()),
    }
}

/// Checks that the process can start as many threads as the engine does.
fn check_threads() -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // One thread per core in two async runtimes and in the thread pool of the kernels, and a few others.
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

/// Checks that there is a home folder, which contains the cache of the Hugging Face hub.
fn check_home() -> Result<()> {
    match dirs::home_dir() {
        Some(_) => Ok(()),
        None => bail!("cannot find the home folder: expected the environment variable HOME"),
    }
}
