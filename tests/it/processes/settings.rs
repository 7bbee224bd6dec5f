//! Flags from the environment and from a file.

use std::fs;

use super::{colm, MODEL, PLAIN};

#[test]
fn flags_come_from_the_environment_and_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("colm.toml");
    fs::write(&file, format!("model = \"{MODEL}\"\nkv-cache-mb = 16\n[run]\nchains = \"3\"\n"))
        .unwrap();
    let file = file.to_str().unwrap();
    let question = ["run", "-i", "What is the remainder of 47 divided by 6?"];
    let ask = |script: &str, more: &[&str]| colm(script, &[&question, more].concat()).stdout;
    assert_eq!(ask(PLAIN, &["--config", file]), "5\n");
    assert_eq!(ask(PLAIN, &["--config", file, "--chains", "2"]), "3\n");
    let from_environment = r#"COLM_CHAINS=1 exec "$0" "$@""#;
    assert_eq!(ask(from_environment, &["--config", file]), "1\n");
    let named = format!(r#"COLM_CONFIG={file} exec "$0" "$@""#);
    assert_eq!(ask(&named, &[]), "5\n");
}

#[test]
fn the_variable_that_is_wrong_is_named() {
    let wrong = r#"COLM_CHAINS=9 exec "$0" "$@""#;
    colm(wrong, &["run", "-m", MODEL, "-i", "a"])
        .refused_with("COLM_CHAINS in the environment: --chains: ");
    // Not if the command line has the flag, in either form.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for given in [format!("-p{port}"), format!("--port={port}")] {
        let ended = colm(r#"COLM_PORT=1 exec "$0" "$@""#, &["serve", "-m", MODEL, &given]);
        ended.refused_with(&format!("colm: error: --port {port}: "));
    }
    // It is not a flag of another meaning.
    let bench = ["bench", "-m", MODEL, "--kv-cache-mb", "16", "-p", "4", "-n", "1", "--runs", "1"];
    let ended = colm(wrong, &bench);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    colm(r#"COLM_BENCH_CHAINS=9 exec "$0" "$@""#, &bench).refused_with("COLM_BENCH_CHAINS");
    // The file is not read for help, nor for a command without flags.
    for arguments in [&["--help"][..], &["kv-store", "stat", "memory:a"]] {
        let ended = colm(r#"COLM_CONFIG=/no/such/file exec "$0" "$@""#, arguments);
        assert!(!ended.stderr.contains("/no/such/file"), "{ended:?}");
    }
}

#[test]
fn a_mistake_in_the_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("colm.toml");
    let file = file.to_str().unwrap();
    let refused = |text: &str, reason: &str| {
        fs::write(file, text).unwrap();
        colm(PLAIN, &["run", "-i", "a", "--config", file]).refused_with(reason);
    };
    refused("modle = \"a\"", "`modle` is not a flag");
    refused("model = ", "colm.toml");
    colm(PLAIN, &["run", "--config", "/no/such/file"]).refused_with("--config /no/such/file");
}
