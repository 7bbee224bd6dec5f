//! Limits intersections of regular expressions.
//!
//! A regular expression that may go on in b ways has b derivatives for a byte, and an intersection of several has all
//! combinations of theirs. llguidance counts steps but not their size, so one step can take all the memory of the machine,
//! and cannot be canceled. The number of combinations is therefore estimated before compiling, rather too high than too low.

use std::collections::HashMap;

use super::lark::{is_in_names, tokens, Token};
use super::GrammarError;

/// The most combinations. Each may take a hundred bytes, for each of thousands of states.
pub(super) const MAX_COMBINATIONS: f64 = 100_000.0;

/// In how many ways a regular expression may go on at most: once for each operator that gives a choice.
pub(super) fn branches(regex: &str) -> f64 {
    1.0 + operators(regex) as f64
}

/// The operators in `text` that give a choice.
pub(super) fn operators(text: &str) -> usize {
    text.bytes().filter(|byte| b"|?*+{".contains(byte)).count()
}

/// Fails if there are too many combinations.
pub(super) fn check(combinations: f64) -> Result<(), GrammarError> {
    if combinations <= MAX_COMBINATIONS {
        return Ok(());
    }
    Err(GrammarError::Invalid(format!(
        "the intersection of regular expressions (& in Lark, several patterns for one string in a schema) has \
         more than {MAX_COMBINATIONS} combinations: expected fewer or simpler ones"
    )))
}

/// Fails if a definition of a Lark grammar has an intersection with too many combinations.
pub(super) fn check_lark(text: &str) -> Result<(), GrammarError> {
    if !text.contains('&') {
        return Ok(());
    }
    let mut definitions = Definitions { all: HashMap::new(), found: HashMap::new() };
    for (name, body) in split(text) {
        // Grammars within the grammar may define a name again.
        definitions.all.entry(name).or_default().push(body);
    }
    let names: Vec<&str> = definitions.all.keys().copied().collect();
    names.into_iter().try_for_each(|name| check(definitions.of(name).combinations()))
}

/// The definitions of a Lark grammar: names, and all lines up to the next definition. What is before the first one has no
/// name.
fn split(text: &str) -> Vec<(&str, &str)> {
    let mut definitions: Vec<(&str, &str)> = vec![("", &text[..0])];
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let end = begin + line.len();
        match line.split_once(':').map(|(head, _)| (head, name_of(head))) {
            Some((head, Some(name))) => {
                definitions.push((name, &text[begin + head.len() + 1..end]))
            }
            _ => {
                if let Some((_, body)) = definitions.last_mut() {
                    let from = body.as_ptr() as usize - text.as_ptr() as usize;
                    *body = &text[from..end];
                }
            }
        }
        begin = end;
    }
    definitions
}

/// The name that is defined, in what comes before the colon: it may have attributes, a priority and a `?` or `!`.
fn name_of(head: &str) -> Option<&str> {
    let name = head.split(['[', '.']).next()?.trim().trim_start_matches(['?', '!']);
    let is_name = !name.is_empty() && name.chars().all(is_in_names);
    is_name.then_some(name)
}

struct Definitions<'a> {
    all: HashMap<&'a str, Vec<&'a str>>,
    found: HashMap<&'a str, Intersection>,
}

/// What is intersected in a definition, with those that it refers to.
#[derive(Clone, Copy)]
struct Intersection {
    /// `&` and `~`, a negation.
    operators: f64,
    branches: f64,
}

impl Intersection {
    const NONE: Self = Self { operators: 0.0, branches: 1.0 };

    fn combinations(self) -> f64 {
        if self.operators == 0.0 {
            return 1.0;
        }
        // Any operator may be in each of the terms.
        self.branches.powf(self.operators + 1.0)
    }
}

impl<'a> Definitions<'a> {
    fn of(&mut self, name: &'a str) -> Intersection {
        if let Some(found) = self.found.get(name) {
            return *found;
        }
        // Terminals cannot be recursive; rules can, and intersect nothing.
        self.found.insert(name, Intersection::NONE);
        let mut sum = Intersection::NONE;
        for body in self.all.get(name).cloned().unwrap_or_default() {
            let (names, signs) = names_and_signs(body);
            sum.operators += signs as f64;
            sum.branches += operators(body) as f64;
            for name in names {
                let inner = self.of(name);
                sum.operators += inner.operators;
                sum.branches += inner.branches - 1.0;
            }
        }
        self.found.insert(name, sum);
        sum
    }
}

/// The names in the body of a definition, and the number of `&` and `~`.
fn names_and_signs(body: &str) -> (Vec<&str>, usize) {
    let tokens = tokens(body);
    let signs = tokens.iter().filter(|token| matches!(token, Token::Sign('&' | '~'))).count();
    let names = tokens.into_iter().filter_map(|token| match token {
        Token::Word(name) => Some(name),
        Token::Sign(_) => None,
    });
    (names.collect(), signs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        check_lark(text).is_err()
    }

    fn intersection(terms: usize) -> String {
        let terms: Vec<String> = (0..terms).map(|at| format!("/(.*b)?a{at}.{{50}}/")).collect();
        format!("start: A\nA: {}\n", terms.join(" & "))
    }

    #[test]
    fn combinations_are_limited() {
        assert_eq!((refused(&intersection(2)), refused(&intersection(60))), (false, true));
        // The terms may come from one definition, and the intersections from several.
        let one: Vec<String> = (0..60).map(|at| format!("(X \"{at}\")")).collect();
        assert!(refused(&format!("start: A\nX: /(.*b)?a.{{50}}/\nA: {}", one.join(" & "))));
        let nested: String =
            (0..60).map(|at| format!("A{at}: A{} & /(.*b)?a{at}/\n", at + 1)).collect();
        assert!(refused(&format!("start: A0\n{nested}A60: /(.*b)?c/")));
        assert!(refused(&format!("start: A\nA: /a*/\n{}", "  & /(.*b)?a.*/\n".repeat(30))));
        // Wherever the definition is, and whatever its name.
        let terms = intersection(60);
        let (_, terms) = terms.split_once("A: ").unwrap();
        assert!(refused(&format!("A-B: {terms}start: A-B")));
        assert!(refused(&format!("%ignore {terms}start: \"a\"")));
        let nested = |body: &str| format!("%lark {{\nstart: {body}}}\n");
        let twice = ["/a/\n", terms, "/a/\n"].map(nested).join(" ");
        assert!(refused(&format!("start: x\nx: {twice}")));
    }

    #[test]
    fn other_grammars_are_not() {
        let keywords = "start: NAME\nNAME: /[a-z]+/ & ~/(if|else|while|for|return)/\n";
        let rules: String = (0..200).map(|at| format!("r{at}: /[a-z]*/ \"&\" | NAME?\n")).collect();
        assert!(!refused(&format!("{keywords}{rules}")));
        assert!(!refused(&format!("start: {}", "/a*&b+/ \"~ & ~\" ".repeat(500))));
        assert!(!refused("start: a // & & & ~ & & & & & & & & & & & &\na: /(a*|b*|c*|d*|e*)/"));
    }
}
