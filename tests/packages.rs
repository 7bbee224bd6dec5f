//! The packages this repository builds: their licenses, their sources, and what our own manifests share.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages that a build for this machine takes.
fn packages() -> Vec<Value> {
    static PACKAGES: OnceLock<Vec<Value>> = OnceLock::new();
    PACKAGES.get_or_init(described_by_cargo).clone()
}

fn described_by_cargo() -> Vec<Value> {
    let version = printed(Command::new(env!("CARGO")).arg("-vV").output().unwrap());
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", host])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_str(&printed(output)).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "{} packages", packages.len());
    packages
}

fn name(package: &Value) -> String {
    format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

/// The packages of the workspace: those without a source, except for the patched host.
fn ours() -> Vec<Value> {
    let ours = packages().into_iter().filter(|package| {
        package["source"].is_null() && package["name"].as_str() != Some("mistralrs-core")
    });
    ours.collect()
}

/// Whether the licenses in `allowed` satisfy an SPDX `expression`. Old manifests write `/` for `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let satisfied = any_of(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression:?} is not an SPDX expression");
    satisfied
}

fn any_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut satisfied = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        satisfied |= all_of(words, at, allowed);
    }
    satisfied
}

fn all_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut satisfied = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        satisfied &= one(words, at, allowed);
    }
    satisfied
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let word = *words.get(*at).unwrap_or_else(|| panic!("{words:?} ends too early"));
    *at += 1;
    if word == "(" {
        let satisfied = any_of(words, at, allowed);
        assert_eq!(words.get(*at), Some(&")"), "{words:?}");
        *at += 1;
        return satisfied;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        return allowed.contains(&format!("{word} WITH {}", words[*at - 1]));
    }
    allowed.contains(word)
}

/// The licenses that deny.toml allows.
fn allowed() -> BTreeSet<String> {
    let text = read("deny.toml");
    let list = Regex::new(r"(?s)\[licenses\].*?allow = \[(.*?)\]").unwrap();
    let list = &list.captures(&text).expect("deny.toml has [licenses] allow = [..]")[1];
    Regex::new(r#""([^"]+)""#).unwrap().captures_iter(list).map(|found| found[1].into()).collect()
}

#[test]
fn license_expressions_are_evaluated() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Zlib"].map(String::from).into();
    for expression in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "ISC AND (GPL-3.0 OR Zlib)"] {
        assert!(satisfied(expression, &allowed), "{expression}");
    }
    for expression in ["GPL-3.0", "MIT AND GPL-3.0", "MIT WITH LLVM-exception", "(GPL-3.0) AND MIT"]
    {
        assert!(!satisfied(expression, &allowed), "{expression}");
    }
}

#[test]
fn every_package_has_a_license_that_deny_toml_allows() {
    let allowed = allowed();
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| {
            let expression = package["license"].as_str();
            !expression.is_some_and(|expression| satisfied(expression, &allowed))
        })
        .map(|package| format!("{}: {}", name(package), package["license"]))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
}

#[test]
fn every_package_comes_from_crates_io_or_this_repository() {
    for package in packages() {
        let path = package["manifest_path"].as_str().unwrap();
        match package["source"].as_str() {
            Some(source) => {
                let registry = "registry+https://github.com/rust-lang/crates.io-index";
                assert_eq!(source, registry, "{}", name(&package));
            }
            None => assert!(Path::new(path).starts_with(root()), "{}: {path}", name(&package)),
        }
    }
}

/// Cargo.toml gives the reason.
#[test]
fn no_package_of_ours_can_be_published() {
    for package in ours() {
        assert_eq!(package["publish"], Value::Array(vec![]), "{}", name(&package));
    }
}

#[test]
fn our_packages_share_version_license_and_lints() {
    let ours = ours();
    assert!(ours.len() > 5, "{} packages", ours.len());
    for package in &ours {
        let manifest = fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let line = format!("{key}.workspace = true");
            assert!(manifest.contains(&line), "{}: no line {line}", name(package));
        }
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}: no [lints]", name(package));
    }
}
