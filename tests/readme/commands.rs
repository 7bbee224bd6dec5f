//! What the commands of the README name: programs, subcommands, flags, make targets, packages and examples.

use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;

use crate::document::{block_with, blocks, program, prose, read};

const COLM: [&str; 4] = ["run", "serve", "perplexity", "bench"];
const CONVERT: [&str; 7] = ["inspect", "verify", "expand", "extract", "pack", "unpack", "cast"];

/// The words of each command in a block of shell, without comments.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (vec![], vec![], None::<String>);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' => {
                let quoted = characters.by_ref().take_while(|next| *next != character);
                word.get_or_insert_default().extend(quoted);
            }
            '\\' if characters.peek() == Some(&'\n') => {
                characters.next();
            }
            '#' if word.is_none() => while characters.next_if(|next| *next != '\n').is_some() {},
            '\n' => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            _ if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    commands.retain(|words| !words.is_empty());
    commands
}

/// The command of the README that contains `words`, one after the other.
pub fn command(words: &str) -> Vec<String> {
    let all = blocks().into_iter().filter(|block| block.language == "sh");
    let mut all = all.flat_map(|block| commands(&block.text));
    all.find(|command| command.join(" ").contains(words))
        .unwrap_or_else(|| panic!("the README has no command with {words:?}"))
}

fn help(name: &str, subcommand: &str) -> String {
    let output = Command::new(program(name)).args([subcommand, "--help"]).output().unwrap();
    assert!(output.status.success(), "{name} {subcommand} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// The flags that a help text lists.
fn flags(help: &str) -> BTreeSet<String> {
    let flag = Regex::new(r"(?:^|[\s,])(--?[a-zA-Z][a-z0-9-]*)").unwrap();
    flag.captures_iter(help).map(|found| found[1].to_string()).collect()
}

/// The flags of the trainer, from the names of its arguments: its program is not built for this test.
fn trainer_flags() -> BTreeSet<String> {
    let text = read("examples/train/cli/arguments.rs");
    let argument = Regex::new(r"#\[arg\(long[^\n]*\n\s+(?:pub )?(\w+):").unwrap();
    let flags = argument.captures_iter(&text);
    flags.map(|found| format!("--{}", found[1].replace('_', "-"))).collect()
}

fn assert_flags(command: &[String], known: &BTreeSet<String>) {
    for word in command.iter().filter(|word| word.starts_with('-') && word.len() > 1) {
        let flag = word.split('=').next().unwrap_or(word);
        assert!(known.contains(flag), "{command:?}: {flag} is none of {known:?}");
    }
}

fn assert_make(command: &[String]) {
    let makefile = read("Makefile");
    for word in &command[1..] {
        if let Some((variable, _)) = word.split_once('=') {
            assert!(makefile.contains(&format!("$({variable})")), "{command:?}: {variable}");
        } else {
            let target = Regex::new(&format!(r"(?m)^{}:", regex::escape(word))).unwrap();
            assert!(target.is_match(&makefile), "{command:?}: no target {word}");
        }
    }
}

fn assert_cargo(command: &[String]) {
    let (own, rest) = match command.iter().position(|word| word == "--") {
        Some(at) => (&command[..at], &command[at + 1..]),
        None => (command, &[][..]),
    };
    assert!(["build", "run", "test"].contains(&own[1].as_str()), "{command:?}");
    let known = ["--release", "--features", "--example", "-p"].map(String::from).into();
    assert_flags(own, &known);
    for pair in own.windows(2) {
        match pair[0].as_str() {
            "--example" => {
                let train = pair[1] == "train";
                let manifest = read(if train { "examples/train/Cargo.toml" } else { "Cargo.toml" });
                let example = format!("[[example]]\nname = \"{}\"\n", pair[1]);
                assert!(manifest.contains(&example), "{command:?}: no example {}", pair[1]);
                assert_flags(rest, &if train { trainer_flags() } else { BTreeSet::new() });
            }
            "-p" => assert!(
                ["checkpoint", "kernels", "prompt"].iter().any(|folder| {
                    read(&format!("{folder}/Cargo.toml"))
                        .contains(&format!("name = \"{}\"", pair[1]))
                }),
                "{command:?}"
            ),
            "--features" => assert!(
                read("Cargo.toml").contains(&format!("\n{} = [", pair[1])),
                "{command:?}: no feature {}",
                pair[1]
            ),
            _ => {}
        }
    }
}

#[test]
fn every_command_names_what_exists() {
    let mut count = 0;
    for block in blocks().into_iter().filter(|block| block.language == "sh") {
        for command in commands(&block.text) {
            count += 1;
            match command[0].strip_prefix("target/debug/").unwrap_or(&command[0]) {
                "make" => assert_make(&command),
                "cargo" => assert_cargo(&command),
                "curl" => {}
                name @ "colm" if COLM.contains(&command[1].as_str()) => {
                    assert_flags(&command[2..], &flags(&help(name, &command[1])));
                }
                name @ "colm-convert" if CONVERT.contains(&command[1].as_str()) => {
                    assert_flags(&command[2..], &flags(&help(name, &command[1])));
                }
                _ => panic!("unknown command: {command:?}"),
            }
        }
    }
    assert!(count > 8, "{count} commands");
}

/// The commands within sentences and tables.
#[test]
fn every_flag_in_the_prose_exists() {
    let mut known = trainer_flags();
    known.extend(COLM.iter().flat_map(|subcommand| flags(&help("colm", subcommand))));
    known.extend(CONVERT.iter().flat_map(|subcommand| flags(&help("colm-convert", subcommand))));
    let mut count = 0;
    for found in Regex::new(r"`([^`]+)`").unwrap().captures_iter(&prose()) {
        let words = commands(&format!("{}\n", &found[1])).remove(0);
        count += words.iter().filter(|word| word.starts_with("--")).count();
        match words[0].as_str() {
            "make" => assert_make(&words),
            "cargo" if words.len() > 1 => assert_cargo(&words),
            name if CONVERT.contains(&name) => {
                assert_flags(&words, &flags(&help("colm-convert", name)));
            }
            _ => assert_flags(&words, &known),
        }
    }
    assert!(count > 8, "{count} flags");
}

#[test]
fn shell_is_read_as_a_shell_reads_it() {
    let text = "a -b 'c d' \"e\nf\" # no\n\n# none\nmake X=\"y z\"\ng \\\n  h\n";
    let expected: [&[&str]; 3] = [&["a", "-b", "c d", "e\nf"], &["make", "X=y z"], &["g", "h"]];
    assert_eq!(commands(text), expected);
}

#[test]
fn the_demo_of_the_makefile_is_that_of_the_readme() {
    let makefile = read("Makefile");
    let printed = crate::run::demo();
    let chains: Vec<&str> = printed.iter().map(|answer| answer.chains.as_str()).collect();
    assert!(makefile.contains(&format!("for k in {}; do", chains.join(" "))), "{makefile}");
    for answer in printed {
        assert!(makefile.contains(&format!("MODEL ?= {}\n", answer.model)), "{answer:?}");
        assert!(makefile.contains(&format!("PROMPT ?= {}\n", answer.question)), "{answer:?}");
    }
    assert!(makefile.contains("echo \"--- $(MODEL) at $$k chain(s): $(PROMPT)\""), "{makefile}");
    assert!(makefile.contains("run -m $(MODEL) --chains $$k -i \"$(PROMPT)\""), "{makefile}");
    assert!(block_with("make demo", "sh").contains("make test"));
}
