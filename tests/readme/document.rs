//! The parts of README.md.

use std::fs;
use std::path::{Path, PathBuf};

/// A fenced code block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The word after the fence.
    pub language: String,
    pub text: String,
}

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The README's code blocks in order.
pub fn blocks() -> Vec<Block> {
    let text = read("README.md");
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = inside.join("\n") + "\n";
        blocks.push(Block { language: language.into(), text });
    }
    assert!(blocks.len() > 5, "{blocks:?}");
    blocks
}

/// The block of `language` that follows the one that contains `words`.
pub fn block_after(words: &str, language: &str) -> String {
    let blocks = blocks();
    let after = blocks.iter().skip_while(|block| !block.text.contains(words)).skip(1);
    let found = after.into_iter().find(|block| block.language == language);
    found.unwrap_or_else(|| panic!("no {language} block after {words:?}")).text.clone()
}

/// The block of `language` that contains `words`.
pub fn block_with(words: &str, language: &str) -> String {
    let found =
        blocks().into_iter().find(|block| block.language == language && block.text.contains(words));
    found.unwrap_or_else(|| panic!("no {language} block with {words:?}")).text
}

/// The README without its code blocks.
pub fn prose() -> String {
    let mut inside = false;
    let lines = read("README.md");
    let outside = lines.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    outside.map(|line| format!("{line}\n")).collect()
}

/// The program that the README calls `target/debug/{name}`.
pub fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_colm")).with_file_name(name);
    assert!(
        program.is_file(),
        "{} is missing: `cargo build --workspace --bins --examples` builds it, as `make test` does",
        program.display()
    );
    program
}
