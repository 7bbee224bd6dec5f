//! Tests with grammars that are hostile or at the limits: each compiles or fails in a short time.

use std::sync::Arc;
use std::time::Duration;

use mistralrs_core::llguidance::api::{GrammarWithLexer, StopReason, TopLevelGrammar};
use mistralrs_core::llguidance::toktrie::ApproximateTokEnv;
use mistralrs_core::llguidance::{Matcher, ParserFactory};
use serde_json::{json, Value};
use tokio::runtime::{Builder, Runtime};

use super::{matcher_of_answer, Grammar, GrammarCompiler, GrammarError};

/// Compiles with a timeout of a minute, for a vocabulary of single bytes.
pub(super) fn compile(grammar: Grammar) -> Result<Matcher, GrammarError> {
    runtime().block_on(compiler(Duration::from_secs(60)).compile(&grammar))
}

/// Whether a text is a complete answer.
pub(super) fn matches(grammar: &Matcher, text: &str) -> bool {
    let mut matcher = grammar.clone();
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    matcher.validate_tokens(&tokens).unwrap() == tokens.len()
        && matcher.consume_tokens(&tokens).is_ok()
        && matcher.is_accepting().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn compiler(timeout: Duration) -> GrammarCompiler {
    let factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).unwrap();
    GrammarCompiler { timeout, ..GrammarCompiler::new(Arc::new(factory)) }
}

fn too_large(grammar: Grammar) {
    let refused = compile(grammar.clone()).err();
    assert!(matches!(refused, Some(GrammarError::TooLarge { .. })), "{grammar:.99?}: {refused:?}");
}

fn invalid(grammar: Grammar) -> String {
    match compile(grammar.clone()) {
        Err(GrammarError::Invalid(message)) if !message.contains("trace") => message,
        refused => panic!("{grammar:.99?}: {:?}", refused.map(|_| "compiled")),
    }
}

fn compiles(grammar: Grammar) -> Matcher {
    compile(grammar.clone()).unwrap_or_else(|refused| panic!("{grammar:.99?}: {refused}"))
}

fn schema(schema: Value) -> Grammar {
    Grammar::JsonSchema(schema)
}

fn regex(text: &str) -> Grammar {
    Grammar::Regex(text.into())
}

fn lark(text: impl Into<String>) -> Grammar {
    Grammar::Lark(text.into())
}

/// Lark grammars with the names g0, g1 and so on.
fn several(texts: &[&str]) -> Grammar {
    let named = |(at, text): (usize, &&str)| {
        let name = Some(format!("g{at}"));
        GrammarWithLexer { name, ..GrammarWithLexer::from_lark(text.to_string()) }
    };
    let grammars = texts.iter().enumerate().map(named).collect();
    Grammar::Llguidance(Box::new(TopLevelGrammar { grammars, max_tokens: None }))
}

/// `count` properties with the same schema.
fn properties(count: usize, schema: &Value) -> Value {
    (0..count).map(|at| (format!("key{at}"), schema.clone())).collect()
}

/// A chain of `count` definitions, each built from a reference to the next.
fn chain(count: usize, last: Value, link: impl Fn(Value) -> Value) -> Value {
    let next = |at: usize| link(json!({"$ref": format!("#/$defs/{at}")}));
    let all: Vec<Value> = (1..count).map(next).chain([last]).collect();
    json!({"$ref": "#/$defs/0", "$defs": all})
}

#[test]
fn large_schemas_are_refused() {
    too_large(schema(json!({"properties": properties(10_000, &json!({}))})));
    too_large(schema(json!({"const": vec![1; 100_000]})));
    too_large(schema(json!({"enum": vec![1; 100_000]})));
    too_large(schema(json!({"enum": [vec![1; 100_000]]})));
    too_large(schema(json!({"const": "a".repeat(100_000)})));
    let deep = (0..1_000).fold(json!({}), |schema, _| json!({"items": schema}));
    assert!(matches!(compile(schema(deep)), Err(GrammarError::TooDeep { limit: 100 })));
    let optional = json!({"type": "object", "properties": properties(1_000, &json!({}))});
    assert!(invalid(schema(optional)).contains("items"));
}

#[test]
fn schemas_of_the_largest_size_are_compiled() {
    let required: Vec<String> = (0..1_000).map(|at| format!("key{at}")).collect();
    let integer = json!({"type": "integer"});
    let object = json!({"type": "object", "properties": properties(1_000, &integer)});
    compiles(schema(json!({"allOf": [object], "required": required})));
    compiles(schema(json!({"type": "object", "properties": properties(240, &integer)})));
    compiles(schema(json!({"const": (0..9_000).collect::<Vec<_>>()})));
    compiles(schema(json!({"enum": (0..9_000).collect::<Vec<_>>()})));
    compiles(schema((0..45).fold(json!({}), |inner, _| json!({"properties": {"a": inner}}))));
    let null = json!({"type": "null"});
    compiles(schema(chain(1_500, null.clone(), |next| json!({"anyOf": [next]}))));
    compiles(schema(chain(1_500, null.clone(), |next| json!({"allOf": [next]}))));
    compiles(schema(chain(1_500, null, |next| json!({"items": next}))));
}

#[test]
fn grammars_that_match_nothing_are_refused() {
    for unsatisfiable in [
        json!(false),
        json!({"type": "string", "minLength": 5, "maxLength": 2}),
        json!({"allOf": [{"type": "integer"}, {"type": "string"}]}),
        json!({"type": "integer", "minimum": 11, "maximum": 19, "multipleOf": 10}),
        json!({"type": "string", "pattern": "^a$", "minLength": 3}),
        json!({"type": "object", "properties": {"a": false}, "required": ["a"]}),
    ] {
        assert!(invalid(schema(unsatisfiable)).contains("nsatisfiable"));
    }
    for endless in [
        schema(json!({"$ref": "#"})),
        schema(json!({"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}})),
        lark("start: start"),
        lark("start: A\nA: \"a\" & \"b\""),
        several(&["start: @g1", "start: @g0"]),
    ] {
        invalid(endless);
    }
}

#[test]
fn references_are_not_expanded() {
    let text = json!({"type": "string"});
    let both = |next: Value| json!({"type": "object", "properties": {"a": next, "b": next}});
    compiles(schema(chain(20, text.clone(), both)));
    compiles(schema(chain(20, text.clone(), |next| json!({"anyOf": [next, next]}))));
    invalid(schema(chain(20, text.clone(), |next| json!({"oneOf": [next, next]}))));
    too_large(schema(chain(20, text.clone(), |next| json!({"allOf": [next, next]}))));
    let merged = |next: Value| json!({"anyOf": [next, next], "minLength": 1});
    too_large(schema(chain(20, text, merged)));
    let anything = json!({"type": "object", "properties": properties(500, &json!({}))});
    too_large(schema(json!({"allOf": [anything, {"additionalProperties": anything}]})));
    for elsewhere in ["http://127.0.0.1:1/a", "file:///etc/passwd", "/etc/passwd", "#/none"] {
        invalid(schema(json!({"$ref": elsewhere})));
    }
}

#[test]
fn numbers_and_repetitions_end() {
    compiles(schema(json!({"type": "array", "items": {"const": 1}, "maxItems": 1_000_000_000})));
    compiles(schema(json!({"type": "array", "items": {"const": 1}, "minItems": u64::MAX})));
    compiles(schema(json!({"type": "string", "minLength": 1_000_000_000})));
    compiles(schema(json!({"type": "string", "maxLength": 1_000_000_000})));
    invalid(schema(json!({"type": "string", "minLength": u64::MAX})));
    compiles(schema(json!({"type": "integer", "minimum": -9e15, "maximum": 9e15})));
    compiles(schema(json!({"type": "number", "multipleOf": 0.01})));
    for divisor in [1e-300, 1e300, 1_000_003.0, 0.0] {
        invalid(schema(json!({"type": "number", "multipleOf": divisor})));
    }
    invalid(schema(json!({"type": "number", "minimum": -1e308, "maximum": 1e308})));
    // This compiles in builds without overflow checks.
    let _ = compile(schema(json!({"type": "integer", "multipleOf": u32::MAX})));
    let range = |at: u32| json!({"minimum": f64::from(at) * 1.234567891e9, "maximum": 9e15});
    invalid(schema(json!({"anyOf": (0..1_000).map(range).collect::<Vec<_>>()})));
    too_large(schema(json!({"properties": properties(300, &json!({})), "minProperties": 1})));
}

#[test]
fn regular_expressions_end() {
    assert!(matches(&compiles(regex("[a-z]{2000}")), &"q".repeat(2000)));
    for text in ["(a|b|ab|ba|aab)*c", "((a{0,1000}){0,1000}){0,1000}", "(.*a.*){30}", ""] {
        compiles(regex(text));
        compiles(schema(json!({"type": "string", "pattern": text})));
    }
    for text in ["((a{1000}){1000}){1000}", "a{1000000000}", "a{40000}"] {
        too_large(regex(text));
    }
    for text in ["(?=a)b", "(?<!a)b", "[", "a^", "\\bfoo", &"(".repeat(300), "(a?){999}a{999}"] {
        invalid(regex(text));
    }
    let _ = compile(regex(&"(a|b)?".repeat(2_000)));
    too_large(regex(&"(a|b)?".repeat(2_001)));
    let patterns = |count: usize, more: Value| {
        let one = |at| json!({"type": "string", "pattern": format!("(.*b)?a{at}.{{50}}")});
        json!({"allOf": (0..count).map(one).chain([more]).collect::<Vec<_>>()})
    };
    // Not an intersection, although it looks like a definition of a Lark grammar that has one.
    compiles(regex(&format!("title: Tom & {} & Jerry", "(a|b)".repeat(150))));
    let lengths = json!({"minLength": 12, "maxLength": 64});
    let password: Vec<Value> = ["[A-Z]", "[a-z]", "[0-9]", "[!@#$%]"]
        .map(|pattern| json!({"type": "string", "pattern": pattern}))
        .to_vec();
    compiles(schema(json!({"allOf": password, "minLength": 12, "maxLength": 64})));
    let _ = compile(schema(patterns(7, lengths.clone())));
    for count in [20, 60] {
        assert!(invalid(schema(patterns(count, lengths.clone()))).contains("combinations"));
    }
    too_large(regex(&format!("(?i){}", r"[a-\x{10ffff}]".repeat(2_000))));
    let patterns: Value = (0..300).map(|at| (format!("^{at}[a-z]*$"), json!({}))).collect();
    too_large(schema(json!({"type": "object", "patternProperties": patterns})));
    invalid(schema(json!({"minLength": format!("{}é", "a".repeat(98))})));
}

#[test]
fn lark_grammars_end() {
    assert!(matches(&compiles(lark("start: start \"a\" | \"b\"")), "baaa"));
    compiles(lark("start: <[226]> /aaebb/"));
    compiles(lark("start: /(?s:.*)/ <|end|>"));
    let rules =
        |count: usize| (1..count).map(|at| format!("r{at}: r{}\n", at + 1)).collect::<String>();
    compiles(lark(format!("start: r1\n{}r2000: \"x\"", rules(2_000))));
    too_large(lark(format!("start: r1\n{}r100000: \"x\"", rules(100_000))));
    for text in ["", "x", "start: <[99999999]>", "start: <|none|>", "start: @none", "start: a{2,1}"]
    {
        invalid(lark(text));
    }
    for text in ["a{".repeat(2_000), "(".repeat(10_000), "\"a\"{1000000000}".into(), "%json".into()]
    {
        invalid(lark(format!("start: {text}")));
    }
    let primes = [7, 11, 13, 17, 19, 23].map(|prime| format!("/(a{{{prime}}})*c/ & ")).concat();
    assert!(invalid(lark(format!("start: A\nA: \"a\" | \"b\" X\nX: {primes} /a*d/")))
        .contains("combinations"));
    for count in 2..60 {
        let terms: Vec<String> = (0..count).map(|at| format!("/(.*b)?a{at}.{{50}}/")).collect();
        let _ = compile(lark(format!("start: A\nA: {}", terms.join(" & "))));
    }
    let doubled = |at: usize| format!("R{at}: R{} R{}\n", at + 1, at + 1);
    let doubles: String = (1..40).map(doubled).collect();
    invalid(lark(format!("start: R1\n{doubles}R40: \"x\"")));
    let nested = json!({"allOf": vec![json!({"anyOf": vec![json!({"type": "null"}); 99]}); 9]});
    too_large(lark(format!("start: %json {nested}")));
}

#[test]
fn ambiguous_grammars_end() {
    let all: String = (0..200).map(|at| format!("| e{at}")).collect();
    let each: String = (0..200).map(|at| format!("e{at}: e e | /[a-z]/\n")).collect();
    assert!(compile(lark(format!("start: e\ne: \"x\" {all}\n{each}"))).is_err());
}

#[test]
fn grammars_of_several_end() {
    let two = several(&["start: \"a\" @g1", "start: \"b\" \"c\""]);
    assert!(matches(&compiles(two), "abc"));
    compiles(several(&["start: \"x\""; 100]));
    too_large(several(&["start: \"x\""; 101]));
    invalid(several(&[]));
    let grammars = vec![GrammarWithLexer::default()];
    invalid(Grammar::Llguidance(Box::new(TopLevelGrammar { grammars, max_tokens: None })));
}

#[test]
fn each_clone_has_its_own_state_and_stops_at_its_end() {
    let object = compiles(Grammar::JsonObject);
    assert!(matches(&object, "{ \"a\": [1, {}] }") && !matches(&object, "[]"));
    let mut first = object.clone();
    first.consume_tokens(&[u32::from(b'{'), u32::from(b'}')]).unwrap();
    assert!(first.is_stopped() && first.stop_reason() == StopReason::NoExtension);
    assert!(!object.is_stopped() && matches(&object, "{}"));
    let mut digits = compiles(regex("[0-9]+")).clone();
    digits.consume_token(u32::from(b'7')).unwrap();
    assert!(!digits.is_stopped() && digits.is_accepting().unwrap());
    let error = digits.consume_token(u32::from(b'x')).unwrap_err().to_string();
    assert!(digits.is_stopped() && digits.is_error());
    assert_eq!(digits.get_error(), Some(error));
}

#[test]
fn whitespace_is_as_the_schema_says() {
    let object = |flexible: bool| {
        let options = json!({"whitespace_flexible": flexible});
        compiles(schema(json!({"type": "object", "x-guidance": options})))
    };
    let spaced = ["{\"a\":1}", "{ \"a\":1}", "{\"a\": 1}"];
    assert_eq!(spaced.map(|text| matches(&object(true), text)), [true; 3]);
    assert_eq!(spaced.map(|text| matches(&object(false), text)), [true, false, false]);
}

#[test]
fn a_thread_counts_until_it_ends() {
    let runtime = runtime();
    let quick = compiler(Duration::from_millis(1));
    let slow = regex(&"(a|b)?".repeat(2_000));
    for _ in 0..2 {
        let refused = runtime.block_on(quick.compile(&slow)).err();
        assert!(matches!(refused, Some(GrammarError::TookTooLong { .. })), "{refused:?}");
    }
    assert_eq!(runtime.block_on(quick.compile(&slow)).err(), Some(GrammarError::Busy));
    let patient = GrammarCompiler { timeout: Duration::from_secs(60), ..quick };
    assert!(runtime.block_on(patient.compile(&Grammar::JsonObject)).is_ok());
}

#[test]
fn endless_compilation_is_cancelled() {
    let runtime = runtime();
    let quick = compiler(Duration::from_millis(500));
    // Only an `a` may follow an `a`, because the first lexeme is greedy.
    for text in ["start: /a+/ \"ab\"", "start: /a+/ b\nb: b"] {
        let refused = runtime.block_on(quick.compile(&lark(text))).err();
        assert!(matches!(refused, Some(GrammarError::TookTooLong { .. })), "{refused:?}");
    }
    let patient = GrammarCompiler { timeout: Duration::from_secs(60), ..quick };
    let (one, two) = (patient.compile(&Grammar::JsonObject), patient.compile(&Grammar::JsonObject));
    assert!(runtime.block_on(async { one.await.is_ok() && two.await.is_ok() }));
}

#[test]
fn an_answer_that_exhausts_its_lexer_leaves_the_others_alone() {
    // Each sequence of 20 letters is a state of the lexer.
    let compiled = compiles(regex("(a|b)*a(a|b){20}c"));
    let [mut one, mut other] = [(); 2].map(|()| matcher_of_answer(&compiled));
    let mut random = 1u64;
    let exhausted = (0..200_000).any(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        one.consume_token(if random >> 63 == 0 { b'a'.into() } else { b'b'.into() }).is_err()
    });
    assert!(exhausted);
    other.consume_token(b'a'.into()).unwrap();
}
