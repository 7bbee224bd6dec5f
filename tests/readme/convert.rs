//! The commands of `colm-convert`, in an empty folder.

use std::process::Command;

use colm_checkpoint::ColmConfig;

use crate::commands::commands;
use crate::document::{block_with, program, root};

#[test]
fn a_llama_grows_as_the_readme_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for command in commands(&block_with("colm-convert extract", "sh")) {
        if command[0] != "target/debug/colm-convert" {
            continue;
        }
        let arguments = command[1..].iter().map(|word| {
            if word.starts_with("models/") {
                root().join(word).to_string_lossy().into_owned()
            } else {
                word.clone()
            }
        });
        let output = Command::new(program("colm-convert"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        count += 1;
    }
    assert_eq!(count, 2);
    let grown = ColmConfig::read(&folder.path().join("grown/config.json")).unwrap();
    assert_eq!(grown.chains.count(), 2);
    assert!(folder.path().join("base/config.json").is_file());
}
