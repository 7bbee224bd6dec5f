//! The Rust program of the README, and what a dependent package has to write.

use std::process::Command;

use crate::document::{block_after, block_with, program, read, root};

#[test]
fn the_program_is_an_example_and_prints_what_it_says() {
    assert_eq!(block_with("fn main", "rust"), read("examples/readme.rs"));
    let output = Command::new(program("examples/readme")).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), block_after("fn main", "text"));
}

#[test]
fn the_patch_is_that_of_our_manifest() {
    let manifest = read("Cargo.toml");
    let block = block_with("[patch.crates-io]", "toml");
    let folder = block.split('"').find(|word| word.contains("target/host/")).unwrap();
    let folder = &folder[folder.find("target/host/").unwrap()..];
    assert!(manifest.contains(&format!("mistralrs-core = {{ path = \"{folder}\" }}")), "{folder}");
}
