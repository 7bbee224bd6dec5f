//! Rejects what llguidance accepts and a matcher ignores.

use super::GrammarError;
use crate::grammar::Grammar;

/// Fails if the grammar limits its tokens as a whole, or if a rule has a temperature.
pub(super) fn refuse(grammar: &Grammar) -> Result<(), GrammarError> {
    let (_, texts) = grammar.parts();
    let problem = match grammar {
        Grammar::Regex(_) => return Ok(()),
        Grammar::Llguidance(all) if all.max_tokens.is_some() => {
            "`max_tokens` of a whole grammar is not supported: expected that of the request"
        }
        _ if texts.into_iter().any(has_temperature) => {
            "the attribute `temperature` of a rule is not supported: expected that of the request"
        }
        _ => return Ok(()),
    };
    Err(GrammarError::Invalid(problem.into()))
}

/// Whether a rule of a Lark grammar has the attribute `temperature`, as in `word[temperature=0.5]: /[a-z]+/`.
fn has_temperature(lark: &str) -> bool {
    lark.lines().any(|line| {
        let name = line.trim_start().trim_start_matches(['?', '!']);
        let attributes = name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        let Some(attributes) = attributes.trim_start().strip_prefix('[') else { return false };
        let before_rule = attributes.split("]:").next().unwrap_or_default();
        before_rule.split(',').any(|attribute| {
            let key = attribute.split('=').next().unwrap_or_default();
            key.trim() == "temperature"
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_rules_are_found() {
        for lark in
            ["a[temperature=0.0]: /x/", "start: a\n  a [max_tokens=5, temperature = 1]: /x/"]
        {
            assert!(has_temperature(lark), "{lark}");
        }
        for lark in [
            "start: a\na[max_tokens=5]: /x/",
            "start: \"temperature\"",
            "start: /a[temperature=0]/",
            "temperature: /[a-z]/",
        ] {
            assert!(!has_temperature(lark), "{lark}");
        }
    }
}
