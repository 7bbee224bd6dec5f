//! Templates that exceed a limit are errors, and quickly so.

use std::time::{Duration, Instant};

use colm_prompt::{ChatTemplate, Conversation, RenderError};

fn render(source: &str) -> Result<String, RenderError> {
    let template = ChatTemplate::new(source, Default::default(), 1 << 20).unwrap();
    let since = Instant::now();
    let message = serde_json::json!({"role": "user", "content": "Hello"});
    let messages = vec![message.as_object().unwrap().clone()];
    let rendered = template.render(&Conversation { messages, ..Conversation::default() });
    assert!(since.elapsed() < Duration::from_secs(10), "{source}: {:?}", since.elapsed());
    rendered
}

#[test]
fn templates_that_exceed_a_limit_are_errors() {
    let mut wrong = Vec::new();
    for source in [
        // Steps.
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        // Bytes of one string.
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ''.join([ns.s, ns.s]) %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set s %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = s %}{% endfor %}",
        "{% macro d(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = d(ns.s) %}{% endfor %}",
        "{{ 'a' * 100000000 }}",
        "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
        "{{ ('\n' * 100000)|indent(4000, blank=true) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%*d'|format(1000000000, 1) }}",
        "{{ '%.1000000000f' % 1.5 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{{ range(90000)|list|tojson(indent=32) }}",
        "{% for i in range(99999) %}long enough to be too much in the end{% endfor %}",
        // Items and nesting.
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{{ ([1] * 1000000000)|list }}",
        "{{ [1]|batch(1000000000, 'x')|list }}",
        "{{ [1]|slice(1000000000)|list }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% set ns = namespace(l={}) %}{% for i in range(99999) %}{% set ns.l = {'a': ns.l} %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = ns.l|batch(1)|list %}{% endfor %}",
        "{% set ns = namespace(l={}) %}{% for i in range(99999) %}{% set ns.l = dict(a=ns.l) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% set t = 'a' * 1000000 %}{{ [s] * 1000000 == [t] * 1000000 }}",
        "{% set s = ['a' * 1000000] %}{% set ns = namespace(l=s) %}{% for i in range(20) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l == ns.l + s }}",
        // Totals.
        "{% set b = 'a' * 1000000 %}{% set s %}{% for i in range(99999) %}{{ b }}{% endfor %}{% endset %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set t = s ~ i %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% if 'b' in s %}{% endif %}{% endfor %}",
        "{{ 'a'.ljust(1000000000) }}{{ 'a'.zfill(1000000000) }}",
        "{{ 'a'.center(1000000000, 'b') }}",
        "{{ '\t'.expandtabs(1000000000) }}",
        "{{ ('\t' * 100000).expandtabs(4000) }}",
        "{{ '{:1000000000}'.format('a') }}",
        "{{ '{:{}}'.format('a', 1000000000) }}",
        "{{ '{:.1000000000%}'.format(1) }}",
        "{{ '%1000000000s' % 'a' }}",
        "{{ '%r%r' % ('a' * 900000, 'a' * 900000) }}",
        "{{ ([[1] * 1000] * 1000)|sum(start=[]) }}",
        "{{ {'a': 'b' * 900000, 'c': 'd' * 900000}|xmlattr }}",
        "{{ {'a': '/' * 900000}|urlencode }}",
        "{{ 'a'|truncate(1, true, 'b' * 10000000) }}",
        "{{ range(99999)|map('tojson')|join('-' * 100000) }}",
    ] {
        match render(source) {
            Err(RenderError::TooLong(_) | RenderError::LimitExceeded(_)) => {}
            Err(error) => wrong.push(format!("{source}: {error:?}")),
            Ok(text) => wrong.push(format!("{source}: {} bytes", text.len())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Not an error of the template: a client that shortens the conversation can try again.
#[test]
fn a_conversation_longer_than_a_prompt_has_an_error_of_its_own() {
    let content = "a".repeat(70_000);
    let message = serde_json::json!({"role": "user", "content": content});
    let messages = vec![message.as_object().unwrap().clone()];
    let conversation = Conversation { messages, ..Conversation::default() };
    for source in ["{{ messages[0].content }}", "{{ '>' + messages[0].content|trim }}"] {
        let template = ChatTemplate::new(source, Default::default(), 1).unwrap();
        let error = template.render(&conversation).unwrap_err();
        assert!(matches!(error, RenderError::TooLong(_)), "{source}: {error:?}");
    }
}

#[test]
fn long_conversations_are_rendered() {
    let messages = (0..2000).map(|index| {
        let message = serde_json::json!({"role": "user", "content": "a".repeat(100 + index % 7)});
        message.as_object().unwrap().clone()
    });
    let conversation = Conversation { messages: messages.collect(), ..Conversation::default() };
    let source = "{% set ns = namespace(text='', list=[]) %}{% for m in messages %}{% set ns.text = ns.text ~ m.content|trim %}\
                  {% set ns.list = ns.list + [m] %}{% endfor %}{{ ns.text }}{{ ns.list|length }}";
    let template = ChatTemplate::new(source, Default::default(), 1 << 20).unwrap();
    let text = template.render(&conversation).unwrap();
    assert!(text.len() > 200_000 && text.ends_with("2000"));
}

#[test]
fn errors_name_the_line() {
    let error = ChatTemplate::new("a\n{% if %}", Default::default(), 0).unwrap_err();
    assert!(error.to_string().ends_with("(line 2)"), "{error}");
    let error = render("a\n\n{# b\n #}{{ 1 + 'a' }}").unwrap_err();
    assert!(error.to_string().ends_with("(line 4)"), "{error}");
    let error =
        render("{%- for a in [1] %}\nb\n{% if true %}{{ nothing.at.all }}{% endif %}{% endfor %}")
            .unwrap_err();
    assert!(error.to_string().ends_with("(line 3)"), "{error}");
}

/// Parsing, compiling and dropping a template takes stack for each level of nesting.
#[test]
fn deep_templates_are_compiled_or_are_errors() {
    let size = 250_000;
    let repeated = |text: &str| text.repeat(size / text.len());
    for source in [
        format!("{{{{ {}1 }}}}", repeated("1+")),
        format!("{{{{ 1{} }}}}", repeated("|int")),
        format!("{{{{ a{} }}}}", repeated(".b")),
        format!("{{{{ a{} }}}}", repeated("[0]")),
        format!("{{{{ a{} }}}}", repeated("()")),
        format!("{{{{ {}1 }}}}", repeated("not ")),
        format!("{{{{ {}1 }}}}", repeated("-")),
        format!("{{{{ {}1 }}}}", repeated("(")),
        format!("{{{{ {} }}}}", repeated("[")),
        format!("{{{{ {} }}}}", repeated("{1:")),
        format!("{{{{ 1{} }}}}", repeated(" if 1 else 1")),
        format!("{{{{ 1{} }}}}", repeated(" and 1")),
        format!("{{{{ 1{} }}}}", repeated("==1")),
        format!("{{% if 1 %}}{}{{% endif %}}", repeated("{% elif 1 %}")),
        repeated("{{ 'a' * 99999999 }}"),
        format!("{{% set {}a = 1 %}}", repeated("(")),
        repeated("{% if 1 %}"),
        repeated("{% for a in b %}"),
        repeated("{% with %}"),
        repeated("{% generation %}"),
        repeated("{% macro m() %}"),
        repeated("{% set x %}"),
        repeated("{% filter upper %}"),
        repeated("{# "),
        repeated("{% raw %}"),
        repeated("{{ '"),
    ] {
        let since = Instant::now();
        let start = source[..30].to_string();
        if let Ok(template) = ChatTemplate::new(&source, Default::default(), 1 << 20) {
            let message = serde_json::json!({"role": "user", "content": "Hello"});
            let messages = vec![message.as_object().unwrap().clone()];
            let _ = template.render(&Conversation { messages, ..Conversation::default() });
        }
        assert!(since.elapsed() < Duration::from_secs(10), "{start}: {:?}", since.elapsed());
    }
}

/// Templates on which minijinja panics or stops halfway give an error or the correct result.
#[test]
fn odd_templates_are_rendered_or_are_errors() {
    for (source, expected) in [
        ("{% for a in [1] %}{{ loop.cycle() }}{% endfor %}", None),
        ("{{ [][::-1] }}", Some("[]")),
        ("{% for a in [] %}{% else %}{% break %}{% endfor %}", None),
        ("{% for a in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", None),
        ("{% for a in [1] %}{% macro m() %}{% break %}{% endmacro %}{{ m() }}{% endfor %}", None),
        ("{{ 'abc'.count('') }}{{ 'abc'.find('', 9) }}", Some("4-1")),
        ("{% for a in [1, 2] %}{% with b = a %}{{ b }}{% break %}{% endwith %}{% endfor %}x", Some("1x")),
        ("{% for a in [1, 2] %}{% with b = a %}{{ b }}{% continue %}{% endwith %}{% endfor %}x{{ b }}", Some("12x")),
        ("{% for a in [1, 2] %}{% set x %}{% break %}{% endset %}{% endfor %}x", Some("x")),
        ("{% for a in [1, 2] %}{% filter upper %}{% break %}{% endfilter %}{% endfor %}x", Some("x")),
        ("{% for a in [1, 2] %}{% with %}{% for b in [3] %}{% break %}{% endfor %}{% endwith %}{{ a }}{% endfor %}", Some("12")),
        ("{% for a in [1, 2] %}{% for b in [3] %}{% break %}{% endfor %}{{ a }}{% endfor %}", Some("12")),
    ] {
        let rendered = ChatTemplate::new(source, Default::default(), 1 << 20).map(|_| render(source));
        match (rendered, expected) {
            (Ok(Ok(text)), Some(expected)) => assert_eq!(text, expected, "{source}"),
            (Ok(Ok(text)), None) => panic!("{source}: {text}"),
            (Ok(Err(error)), Some(_)) => panic!("{source}: {error}"),
            (Err(error), Some(_)) => panic!("{source}: {error}"),
            (Ok(Err(_)) | Err(_), None) => {}
        }
    }
}

/// Errors in Python are errors here, and unsupported features are named.
#[test]
fn errors_of_python_are_errors() {
    for source in [
        "{{ 1 / 0 }}",
        "{{ 1.0 // 0 }}",
        "{{ 1 % 0 }}",
        "{{ 0 ** -1 }}",
        "{{ 10.0 ** 400 }}",
        // Whole numbers have any size in Python.
        "{{ 1e300|int }}",
        "{{ ('9' * 50)|int }}",
        "{{ 1 in 'a' }}",
        "{{ '{0}{}'.format(1, 2) }}",
        "{{ '{:.2}'.format(3) }}",
        "{{ '{:5}'.format([]) }}",
        "{{ '%x' % 1.5 }}",
        "{{ missing[1:2] }}",
        "{{ {'a b': 1}|xmlattr }}",
        "{{ {'a=b': 1}|xmlattr }}",
        "{{ 1 < 'a' }}",
        "{{ none < 1 }}",
        "{{ (1,) < [1] }}",
        "{{ nothing < 1 }}",
        "{{ nothing + 1 }}",
        "{{ ['a', 1]|sort }}",
        "{{ ['a', 1]|max }}",
        "{{ 1 in '1' }}",
        "{{ 1 in none }}",
        "{{ +'a' }}",
        "{{ [1] + (1,) }}",
        "{{ [1] + range(2) }}",
        "{{ range(3)|tojson }}",
        "{{ {'a': 1}.items()|tojson }}",
        "{{ namespace()|tojson }}",
        "{{ range(100001) }}",
        "{{ '%s %s' % (1,) }}",
        "{{ '%s' % (1, 2) }}",
        "{{ '%d' % 'a' }}",
        "{{ '{:5}'.format([1]) }}",
        "{{ '{'.format() }}",
        "{{ 'a'|sum }}",
        "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
        "{% macro m(a) %}{% endmacro %}{{ m(b=1) }}",
        "{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}",
    ] {
        match render(source) {
            Err(RenderError::Failed(_)) => {}
            other => panic!("{source}: {other:?}"),
        }
    }
    for (source, expected) in [
        ("a\n{% endgeneration %}", "unknown statement endgeneration (line 2)"),
        ("a\n{% block x %}{% endblock %}", "`block` is not supported in chat templates (line 2)"),
        (
            "\n{{ '\\N{BULLET}' }}",
            "a text has an escape `\\N{…}`; expected the character itself (line 2)",
        ),
        ("\n\n{{ '\\x4' }}", "a text has an escape with fewer than 2 digits (line 3)"),
        (
            "{% for a in [1] %}\n{% generation %}{% break %}{% endgeneration %}{% endfor %}",
            "`break` and `continue` cannot leave a `generation` block (line 2)",
        ),
    ] {
        let error = ChatTemplate::new(source, Default::default(), 0).unwrap_err();
        assert_eq!(error.to_string(), expected, "{source}");
    }
}
