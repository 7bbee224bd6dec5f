//! Answers in pieces, and the calls that are found in them.

use std::time::{Duration, Instant};

use rand::{rngs::StdRng, seq::IndexedRandom, Rng, SeedableRng};

use super::{Part, ToolCall, ToolParser};

const F: &str = r#"{"name":"f","arguments":{"a":"}\"é"}}"#;
const FOUND: &str = r#"«f {"a":"}\"é"}»"#;

/// The parts of an answer in these pieces, each call as `«name arguments»`.
fn parsed(max_calls: usize, pieces: &[&str]) -> String {
    let mut parser = ToolParser::new(["f", "fo", "get-x"].map(String::from).into(), max_calls);
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let calls = parts.iter().filter(|part| matches!(part, Part::Call(_))).count();
    assert!(calls <= max_calls && parser.is_full() == (calls == max_calls));
    let shown = parts.into_iter().map(|part| match part {
        Part::Text(text) => text,
        Part::Call(call) => format!("«{} {}»", call.name, call.arguments),
    });
    shown.collect()
}

/// `cases`: an answer and what is found in it. `F` stands for the call, `FOUND` for it found.
fn check(cases: &[(&str, &str)]) {
    for (answer, expected) in cases {
        let (answer, expected) = (answer.replace('F', F), expected.replace("FOUND", "@"));
        let expected = expected.replace('F', F).replace('@', FOUND);
        assert_eq!(parsed(9, &[&answer]), expected, "{answer}");
        assert_eq!(parsed(9, &answer.split("").collect::<Vec<_>>()), expected, "{answer}");
    }
}

#[test]
fn hermes_calls_are_found() {
    check(&[
        ("<tool_call>F</tool_call>", "FOUND"),
        ("\n<tool_call>\nF\n</tool_call>\n<tool_call>F</tool_call>\n", "FOUNDFOUND"),
        (" a \n<tool_call>F</tool_call>\nb <tool_call>F</tool_call> c ", " aFOUND \nbFOUND c "),
        ("a<tool_call>F</tool_call>\n <tool_call>F</tool_call> b", "aFOUNDFOUND\n b"),
        ("a<tool_call>F</tool_call>b", "aFOUNDb"),
        ("<tool_call>[F, F]</tool_call>", "FOUNDFOUND"),
        ("a <tool_call>F", "aFOUND"),
        ("a <tool_call>F\n</tool_", "aFOUND"),
        ("<tool_call>oops <tool_call>F</tool_call>", "<tool_call>oopsFOUND"),
        ("<tool_call>{\"a\n<tool_call>F</tool_call>", "<tool_call>{\"aFOUND"),
        ("<tool_<tool_call>F</tool_call>", "<tool_FOUND"),
    ]);
}

#[test]
fn mistral_calls_are_found() {
    check(&[
        ("a [TOOL_CALLS] [F, F] b", "aFOUNDFOUND b"),
        ("[TOOL_CALLS]f{\"a\": [1]}", "«f {\"a\": [1]}»"),
        ("[TOOL_CALLS]fo[ARGS]{}[TOOL_CALLS]get-x{}", "«fo {}»«get-x {}»"),
        ("[TOOL_CALLS][TOOL_CALLS] f{}", "[TOOL_CALLS]«f {}»"),
        ("[TOOL_CALLS]fo[TOOL_CALLS]f{}", "[TOOL_CALLS]fo«f {}»"),
    ]);
}

#[test]
fn llama_calls_are_found() {
    check(&[
        ("a <|python_tag|>F ; F\nb", "aFOUNDFOUND b"),
        ("<|python_tag|>F; {}", "FOUND; {}"),
        (" F\n", "FOUND"),
        ("F; F", "FOUNDFOUND"),
        ("[F, F]", "FOUNDFOUND"),
    ]);
}

#[test]
fn text_that_is_not_a_call_is_unchanged() {
    let answers = r#"|<tool_call>|</tool_call>|a <tool_|<<[TOOL_CALLS|<<tool_call>F<b|a F|F a|F;
        |F; {|F F|[]|[1] a|{x|{"a":"<tool_call>F|[F|<tool_call>{"a <tool_call>F</tool_call>
        |<tool_call> {"name":"g","arguments":{}} </tool_call> |<tool_call>F}</tool_call>
        |[TOOL_CALLS]fob{}|[TOOL_CALLS]f{|[TOOL_CALLS]f[ARGS] a|[TOOL_CALLS]fo[ARGS]
        |[TOOL_CALLS]f{1}|[TOOL_CALLS][F,{}]|[TOOL_CALLS] []"#;
    for answer in answers.split('|') {
        check(&[(answer, answer)]);
    }
    check(&["<|python_tag|>print(1)", "<|python_tag|>{]", "<|"].map(|answer| (answer, answer)));
}

#[test]
fn later_calls_are_dropped() {
    let answer = "a <tool_call>F</tool_call> <tool_call>F</tool_call> b".replace('F', F);
    assert_eq!(parsed(1, &[&answer]), format!("a{FOUND} b"));
    assert_eq!(parsed(1, &[&format!("[{F},{F}]")]), FOUND);
    assert_eq!(parsed(0, &[F]), "");
}

#[test]
fn text_is_held_back_only_while_a_call_may_follow() {
    let mut parser = ToolParser::new(vec!["f".into()], 1);
    let text = |text: &str| vec![Part::Text(text.into())];
    assert_eq!(parser.push(" {x} a"), text(" {x} a"));
    assert_eq!(parser.push("b<"), text("b"));
    assert_eq!(parser.push("c \n"), text("<c"));
    assert_eq!(
        parser.push("[TOOL_CALLS]f{}"),
        [Part::Call(ToolCall { name: "f".into(), arguments: "{}".into() })]
    );
    assert!(parser.is_full());
}

#[test]
fn the_result_does_not_depend_on_the_pieces() {
    let mut rng = StdRng::seed_from_u64(11);
    let fragments =
        "<tool_call>~</tool_call>~[TOOL_CALLS]~<|python_tag|>~<tool~_call>~[TOOL~<|~{~}~\
        [~]~\"~\\~,~;~ ~\n~é~🦊~1~f~fo~[ARGS]~{}~F~F~F~<tool_call>F~[TOOL_CALLS]f{}~{\"name\":~\
        \"arguments\":{~<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>";
    let fragments: Vec<&str> = fragments.split('~').collect();
    let mut found = 0;
    for _ in 0..5000 {
        let length = rng.random_range(0..12);
        let answer: String = (0..length).map(|_| *fragments.choose(&mut rng).unwrap()).collect();
        let answer = answer.replace('F', F);
        let whole = parsed(2, &[&answer]);
        let cuts = (0..=answer.len()).filter(|at| answer.is_char_boundary(*at));
        let mut cuts: Vec<usize> = cuts.filter(|_| rng.random_bool(0.4)).collect();
        cuts.extend([0, answer.len()]);
        cuts.sort();
        let pieces: Vec<&str> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
        assert_eq!(parsed(2, &pieces), whole, "{pieces:?}");
        found += usize::from(whole.contains('«'));
        assert!(whole.contains('«') || whole == answer, "{answer}");
    }
    assert!(found > 500, "{found}");
}

#[test]
fn a_long_answer_takes_linear_time() {
    for (start, repeated) in [
        ("<tool_call>{\"", "a"),
        ("<tool_call>", "{"),
        ("", "["),
        ("<tool_call>", " "),
        ("", "a "),
        ("[TOOL_CALLS]", " "),
        ("", "<tool_call>{"),
        ("<tool_call>{\"", "<tool_call>"),
        ("", " <"),
    ] {
        let answer = start.to_string() + &repeated.repeat(100_000 / repeated.len());
        let pieces: Vec<&str> = answer.split("").collect();
        let begun = Instant::now();
        assert_eq!(parsed(1, &pieces), answer);
        assert!(begun.elapsed() < Duration::from_secs(1), "{start}{repeated}");
    }
}
