//! Chat templates are rendered as in transformers.

use crate::fixtures::{conversations, fixture, text, time};
use colm_prompt::{ChatTemplate, RenderError};
use serde_json::Value;

#[test]
fn conversations_are_rendered_as_by_transformers() {
    let rendered: Value = fixture("rendered.json");
    let tokens = rendered["special_tokens"].as_object().unwrap();
    let tokens: std::collections::BTreeMap<_, _> =
        tokens.iter().map(|(name, token)| (name.clone(), text(token))).collect();
    let now = time(&rendered["now"]);
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, expected) in rendered["templates"].as_object().unwrap() {
        let source = crate::fixtures::fixture_text(&format!("templates/{name}.jinja"));
        let template = match ChatTemplate::new(&source, tokens.clone(), 1 << 20) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (conversation_name, conversation) in conversations() {
            let Some(expected) = expected.get(&conversation_name) else { continue };
            compared += 1;
            let at = format!("{name} x {conversation_name}");
            match (
                template.render_at(&conversation, now),
                expected.get("text"),
                expected.get("error"),
            ) {
                (Ok(found), Some(expected), _) if found == text(expected) => {}
                (Ok(found), Some(expected), _) => {
                    wrong.push(format!("{at}: {}", first_difference(&found, &text(expected))));
                }
                (Err(RenderError::Raised(found)), _, Some(error)) if found == text(error) => {}
                // The messages of Jinja and minijinja differ.
                (Err(RenderError::Failed(_)), _, Some(_)) => {}
                (found, _, _) => {
                    wrong.push(format!("{at}:\n  found {found:?}\n  expected {expected}"))
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 1100, "{compared} renderings are compared");
}

/// The first difference of two strings.
fn first_difference(found: &str, expected: &str) -> String {
    let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let near = |text: &str| text.chars().skip(same.saturating_sub(20)).take(60).collect::<String>();
    format!("at character {same}\n  found    {:?}\n  expected {:?}", near(found), near(expected))
}
