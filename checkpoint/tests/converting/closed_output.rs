//! Stdout that is closed or full.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use colm_checkpoint::Dtype;

use crate::model::converted;
use colm_testing::small_checkpoint::{config_json, parse, write_chains};

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colm-convert"));
    command.current_dir(dir).args(arguments).stderr(Stdio::piped());
    command
}

/// The stderr of a command whose stdout is a closed pipe.
fn unread(dir: &Path, arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command(dir, arguments).stdout(writer).output().unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_chains(&folder.path().join("model"), &parse(config_json()), Dtype::F32);
    folder
}

const COMMANDS: [&[&str]; 10] = [
    &["--help"],
    &["--version"],
    &["expand", "--help"],
    &["inspect", "model"],
    &["inspect", "model", "--json"],
    &["verify", "model"],
    &["expand", "model", "x", "--chains", "2,1,1,4", "--dry-run"],
    &["unpack", "model", "dense"],
    &["cast", "model", "half", "--dtype", "bf16"],
    &["extract", "model", "small", "--chains", "1"],
];

#[test]
fn a_closed_stdout_is_not_an_error() {
    let folder = folder();
    let dir = folder.path();
    for arguments in COMMANDS {
        let output = unread(dir, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    // The conversion is complete.
    for written in ["dense", "half", "small"] {
        converted(dir, &["verify", written]);
    }
    // The exit code still says whether there are problems.
    std::fs::write(dir.join("model/tokenizer.json"), "{").unwrap();
    let output = unread(dir, &["verify", "model"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 problem"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_an_error() {
    let folder = folder();
    for arguments in COMMANDS {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(folder.path(), arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("error: cannot write to stdout"), "{arguments:?}: {said}");
        assert!(said.contains("because: No space left"), "{arguments:?}: {said}");
    }
}

/// Errors of stderr are ignored.
#[cfg(target_os = "linux")]
#[test]
fn a_full_or_closed_stderr_changes_nothing() {
    let folder = folder();
    let dir = folder.path();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status =
        command(dir, &["unpack", "model", "a"]).stdout(Stdio::null()).stderr(full).status();
    assert_eq!(status.unwrap().code(), Some(0));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        command(dir, &["unpack", "model", "a"]).stdout(Stdio::null()).stderr(writer).status();
    assert_eq!(status.unwrap().code(), Some(1));
}
