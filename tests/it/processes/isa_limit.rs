//! `COLM_MAX_CPU_ISA`.

use std::fs;

use super::kv_store::run_with_store;
use super::{colm, MODEL};

fn limited(isa: &str) -> String {
    format!(r#"COLM_MAX_CPU_ISA={isa} exec "$0" "$@""#)
}

#[test]
fn an_unknown_instruction_set_is_refused_by_every_command_that_computes() {
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(&text, "What is 27 + 58?").unwrap();
    let text = text.path().to_str().unwrap();
    let expected = "`COLM_MAX_CPU_ISA` \"sse2\": expected portable, avx2, avx512, avx512bf16, amx";
    let sse2 = limited("sse2");
    let commands: [&[&str]; 4] =
        [&["run", "-i", "2"], &["serve", "--port", "0"], &["perplexity", "-f", text], &["bench"]];
    for command in commands {
        colm(&sse2, &[command, &["-m", MODEL]].concat()).refused_with(expected);
    }
    let doctor = colm(&sse2, &["doctor"]);
    doctor.refused_with("1 problem");
    assert!(doctor.stdout.contains(&format!("unknown: {expected}")), "{doctor:?}");
}

#[test]
fn the_limit_is_the_instruction_set_and_answers_stay() {
    let prompt = ["run", "-m", MODEL, "-i", "What is the remainder of 47 divided by 6?"];
    let answer = |isa: &str| {
        let ended = colm(isa, &prompt);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let expected = answer(&limited("amx"));
    assert!(!expected.trim().is_empty());
    for (isa, found) in [("avx2", "AVX2"), ("portable", "none (portable code)")] {
        let isa = limited(isa);
        let doctor = colm(&isa, &["doctor"]).stdout;
        let line = doctor.lines().find(|line| line.contains("instruction set")).unwrap();
        assert!(line.contains(found), "{line}");
        assert_eq!(answer(&isa), expected, "{found}");
    }
}

/// A processor without AVX-512 passes too: it reads what it has written.
#[test]
fn processes_with_the_same_rounding_share_a_kv_store() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let nothing_reused =
        |isa: &str| run_with_store(&limited(isa), &url).stderr.contains("(0 reused");
    assert!(nothing_reused("avx2"));
    assert!(!nothing_reused("avx512"));
    assert!(nothing_reused("portable"));
}
