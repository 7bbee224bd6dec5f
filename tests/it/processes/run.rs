//! `colm run` with unusual streams, limits and surroundings.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::{fs, io};

use super::{colm, ended, Running, COLM, MODEL, PLAIN};
use crate::folders::model_folder::Folder;

/// Arguments for a chat with short answers; with a prompt, for one answer.
const CHAT: [&str; 7] = ["run", "-m", MODEL, "--kv-cache-mb", "16", "--max-tokens", "4"];

const ANSWER: [&str; 9] =
    ["run", "-m", MODEL, "--kv-cache-mb", "16", "--max-tokens", "4", "-i", "hello"];

#[test]
#[cfg(target_os = "linux")]
fn run_works_without_stderr() {
    let usual = colm(PLAIN, &ANSWER);
    assert!(usual.code == Some(0) && usual.stdout.len() > 1, "{usual:?}");
    for stderr in ["2>/dev/full", "2>&-"] {
        for log in ["warn", "trace", "=,="] {
            let ended = colm(&format!("export RUST_LOG={log}; {PLAIN} {stderr}"), &ANSWER);
            let as_usual = ended.code == Some(0) && ended.stdout == usual.stdout;
            assert!(as_usual, "{log} {stderr}: {ended:?}");
        }
        let wrong = colm(&format!("{PLAIN} {stderr}"), &["run", "-m", "no-such-folder"]);
        assert_eq!(wrong.code, Some(1), "{wrong:?}");
    }
}

/// A script must not mistake part of an answer for the whole.
#[test]
fn ctrl_c_ends_one_answer_with_the_signal() {
    let long = ["run", "-m", MODEL, "--kv-cache-mb", "16", "--temperature", "9", "-i", "hello"];
    let killed = (0..20).any(|_| {
        let mut command = Command::new(COLM);
        command.args(long).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running::start(&mut command);
        let mut first = [0];
        // The answer has begun. It may end before the signal comes.
        let _ = process.0.stdout.as_mut().unwrap().read(&mut first).unwrap();
        process.signal("INT");
        process.0.wait().unwrap().signal().is_some()
    });
    assert!(killed);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_stdout_is_an_error() {
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(&text, "a text to score").unwrap();
    let text = text.path().to_str().unwrap();
    for arguments in [
        &ANSWER[..],
        &["perplexity", "-m", MODEL, "--chains", "1", "-f", text],
        &["bench", "-m", MODEL, "--chains", "1", "-p", "4", "-n", "1", "--runs", "1"],
        &["serve", "--help"],
        &["--version"],
    ] {
        colm(&format!("{PLAIN} >/dev/full"), arguments).refused_with("cannot write to stdout");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    for arguments in [&ANSWER[..], &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = ended(Command::new(COLM).args(arguments).stdout(writer).stderr(Stdio::piped()));
        assert!(ended.code == Some(0) && ended.stderr.is_empty(), "{ended:?}");
    }
}

#[test]
fn the_limit_of_open_files_is_raised_or_reported() {
    for files in [8, 10, 12, 16, 20, 32, 63] {
        let ended = colm(&format!("ulimit -n {files}; {PLAIN}"), &ANSWER);
        ended.refused_with(&format!("{files} files"));
        ended.refused_with("ulimit -n");
    }
    for enough in ["ulimit -n 64", "ulimit -S -n 8"] {
        let ended = colm(&format!("{enough}; {PLAIN}"), &ANSWER);
        assert_eq!(ended.code, Some(0), "{enough}: {ended:?}");
    }
}

#[test]
fn run_works_without_home_directory_and_locale() {
    let usual = colm(PLAIN, &ANSWER).stdout;
    let gone = r#"gone=$(mktemp -d) && cd "$gone" && rmdir "$gone""#;
    let poor = "export HOME=/dev/null/none TMPDIR=/dev/null/none LC_ALL=C";
    for surroundings in [gone, poor, "unset HOME"] {
        let ended = colm(&format!("{surroundings}; {PLAIN}"), &ANSWER);
        let as_usual = ended.code == Some(0) && ended.stdout == usual;
        assert!(as_usual, "{surroundings}: {ended:?}");
    }
}

#[test]
fn a_model_without_a_chat_template_continues_text() {
    let folder = Folder::new().with("tokenizer_config.json", |json| {
        json.as_object_mut().unwrap().remove("chat_template");
    });
    let path = folder.0.path().to_str().unwrap();
    let run = ["run", "-m", path, "--kv-cache-mb", "16", "--max-tokens", "4", "-i", "What is"];
    colm(PLAIN, &run).refused_with("--raw");
    let raw = colm(PLAIN, &[&run[..], &["--raw"]].concat());
    assert!(raw.code == Some(0) && raw.stdout.len() > 1, "{raw:?}");
    let with_template = [&ANSWER[..], &["--raw"]].concat();
    assert_ne!(colm(PLAIN, &with_template).stdout, colm(PLAIN, &ANSWER).stdout);
}

#[test]
fn input_that_is_not_utf8_ends_a_chat() {
    let garbage = tempfile::NamedTempFile::new().unwrap();
    fs::write(&garbage, b"hello\n\xff\xfe\x00\nhello\n").unwrap();
    let path = garbage.path().to_str().unwrap();
    let ended = colm(&format!("{PLAIN} <'{path}'"), &CHAT);
    ended.refused_with("UTF-8");
    ended.refused_with("line 2 of stdin");
    assert_eq!(ended.stdout, colm(PLAIN, &ANSWER).stdout, "earlier lines are answered");
    colm(&format!("{PLAIN} </"), &CHAT).refused_with("stdin");
    for empty in ["<&-", "</dev/null"] {
        let ended = colm(&format!("{PLAIN} {empty}"), &CHAT);
        assert!(ended.code == Some(0) && ended.stdout.is_empty(), "{ended:?}");
        assert!(!ended.stderr.contains("/help"), "a greeting outside a terminal: {ended:?}");
    }
}
