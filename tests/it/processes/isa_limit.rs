//! `COLM_MAX_CPU_ISA`.

use super::{colm, MODEL};

fn limited(isa: &str) -> String {
    format!(r#"COLM_MAX_CPU_ISA={isa} exec "$0" "$@""#)
}

#[test]
fn an_unknown_instruction_set_is_refused_by_every_command_that_computes() {
    let expected = "`COLM_MAX_CPU_ISA` \"sse2\": expected portable, avx2, avx512, avx512bf16, amx";
    let sse2 = limited("sse2");
    colm(&sse2, &["run", "-m", MODEL, "-i", "2"]).refused_with(expected);
    colm(&sse2, &["serve", "-m", MODEL, "--port", "0"]).refused_with(expected);
    let doctor = colm(&sse2, &["doctor"]);
    doctor.refused_with("1 problem");
    assert!(doctor.stdout.contains(expected), "{doctor:?}");
}

#[test]
fn the_limit_is_the_instruction_set_and_answers_stay() {
    let prompt = ["run", "-m", MODEL, "-i", "What is the remainder of 47 divided by 6?"];
    let answer = colm(&limited("amx"), &prompt).stdout;
    for (isa, found) in [("avx2", "AVX2"), ("portable", "none (portable code)")] {
        let isa = limited(isa);
        let doctor = colm(&isa, &["doctor"]).stdout;
        let line = doctor.lines().find(|line| line.contains("instruction set")).unwrap();
        assert!(line.contains(found), "{line}");
        assert_eq!(colm(&isa, &prompt).stdout, answer, "{found}");
    }
}
