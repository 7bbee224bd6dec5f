//! The first lines of a chat in a terminal.

use std::path::Path;

use colm::ChainCount;

use super::model_card::example_prompts;

/// How many example prompts are shown.
const MAX_EXAMPLES: usize = 3;

/// Says which model answers at which chain count, how to list the commands, and what to ask. The example prompts come
/// from the model card in the folder `model`; there are none if `model` is an id of the hub.
pub fn greeting(
    name: &str,
    model: &str,
    chains: ChainCount,
    loaded: ChainCount,
    of_model: usize,
) -> String {
    let loaded = match loaded.get() {
        loaded if loaded == of_model => format!("{loaded} chains"),
        loaded => format!("{loaded} of {of_model} chains loaded"),
    };
    let mut text = format!("{name}: {loaded}, answers at k = {chains}. /help lists the commands.");
    for (index, prompt) in example_prompts(Path::new(model), MAX_EXAMPLES).iter().enumerate() {
        text += if index == 0 { "\nTry: " } else { "\n     " };
        text += prompt;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-colm-air");

    fn chains(k: usize) -> ChainCount {
        ChainCount::new(k, 4).unwrap()
    }

    /// A greeting of the shipped model at 4 chains.
    fn shipped() -> String {
        greeting("tiny-colm-air", SHIPPED, chains(4), chains(4), 4)
    }

    #[test]
    fn it_names_the_model_the_chains_and_example_prompts() {
        let text = shipped();
        let lines: Vec<&str> = text.lines().collect();
        let first = "tiny-colm-air: 4 chains, answers at k = 4. /help lists the commands.";
        assert_eq!((lines.len(), lines[0]), (1 + MAX_EXAMPLES, first));
        assert!(lines[1].starts_with("Try: "), "{text}");
        assert!(lines[2].starts_with("     ") && lines[3].starts_with("     "), "{text}");
    }

    #[test]
    fn the_readme_shows_it() {
        let readme = include_str!("../../README.md");
        let chat = format!("```text\n{}\nk=4> ", shipped());
        assert!(readme.contains(&chat), "README.md does not contain: {chat}");
    }

    #[test]
    fn a_model_without_a_card_has_no_example_prompts() {
        let text = greeting("a", "no/folder", chains(1), chains(2), 4);
        let expected = "a: 2 of 4 chains loaded, answers at k = 1. /help lists the commands.";
        assert_eq!(text, expected);
    }
}
