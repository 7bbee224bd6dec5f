//! Rejects what llguidance accepts and a matcher ignores.

use super::lark::{tokens, Token};
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

/// Whether a rule of a Lark grammar has the attribute `temperature`, as in `word[temperature=0.5]: /[a-z]+/`. An equals sign
/// has no other meaning there.
fn has_temperature(lark: &str) -> bool {
    let attribute = [Token::Word("temperature"), Token::Sign('=')];
    tokens(lark).windows(2).any(|pair| pair == attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_rules_are_found() {
        for lark in [
            "a[temperature=0.0]: /x/",
            "start: a\n  a [max_tokens=5, temperature = 1]: /x/",
            "my-word[temperature=0.5]: /x+/",
            "start: x\nx: %lark { start[temperature=0.5]: /a/ }",
            "a[stop=\"]:\", temperature=0.5]: /x/",
        ] {
            assert!(has_temperature(lark), "{lark}");
        }
        for lark in [
            "start: a\na[max_tokens=5]: /x/",
            "start: \"temperature\"",
            "start: /a[temperature=0]/",
            "temperature: /[a-z]/",
            "a: /x/ // temperature=0",
        ] {
            assert!(!has_temperature(lark), "{lark}");
        }
    }
}
