//! The diagram of crates and modules in docs/architecture.md, generated from the manifests and the sources.
//!
//! `COLM_UPDATE_DOCS=1 cargo test --test architecture` generates it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

const DOCUMENT: &str = "docs/architecture.md";

/// The lines before and after the diagram in the document.
const BEGIN: &str = "<!-- drawn by tests/architecture.rs -->\n";
const END: &str = "<!-- end of drawing -->\n";

/// The node of the modules that are single files: the types of the Rust API.
const API: &str = "api";

/// The crates of the host that the diagram shows.
const HOST: [&str; 2] = ["mistralrs-core", "mistralrs-quant"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `.rs` files below `path`, or `path` itself.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let rust = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|end| end == "rs");
    entries.into_iter().filter(rust).flat_map(|path| sources(&path)).collect()
}

/// The code below `path` without unit tests and comments.
fn code(path: &Path) -> String {
    let text: String = sources(path).iter().map(|file| read(file) + "\n").collect();
    let tests = Regex::new(r"(?s)#\[cfg\(test\)\]\nmod \w+ \{\n.*?\n\}\n").unwrap();
    let comments = Regex::new(r"(?m)//.*$").unwrap();
    comments.replace_all(&tests.replace_all(&text, ""), "").into_owned()
}

/// The modules of the crate colm, and where they are.
fn modules() -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path());
    let modules = entries.filter_map(|path| {
        let name = path.file_stem()?.to_str()?.to_string();
        (!["lib", "main"].contains(&name.as_str())).then_some((name, path))
    });
    modules.collect()
}

/// The node of the module at `path`: its own for a folder, a common one for single files.
fn node(module: &str, path: &Path) -> String {
    if path.is_dir() {
        module.to_string()
    } else {
        API.to_string()
    }
}

/// The first segments of the paths below `root` (a crate's name or `crate`) in `code`, those in braces as well.
fn used(code: &str, root: &str) -> BTreeSet<String> {
    let one = Regex::new(&format!(r"\b{root}::(\w+)")).unwrap();
    let group = Regex::new(&format!(r"\b{root}::\{{")).unwrap();
    let mut names: BTreeSet<String> =
        one.captures_iter(code).map(|found| found[1].to_string()).collect();
    for found in group.find_iter(code) {
        let (mut depth, mut segment) = (0, String::new());
        for character in code[found.end()..].chars() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(first_word(&segment));
                    segment.clear();
                    continue;
                }
                _ => {}
            }
            segment.push(character);
        }
        names.insert(first_word(&segment));
    }
    names
}

fn first_word(text: &str) -> String {
    text.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_string()
}

/// What `src/lib.rs` re-exports: the module of each name.
fn re_exports() -> BTreeMap<String, String> {
    let text = read(&root().join("src/lib.rs"));
    let uses = Regex::new(r"(?s)pub use (\w+)((?:::\w+)*?)::(\{.*?\}|\w+);").unwrap();
    let mut names = BTreeMap::new();
    for found in uses.captures_iter(&text) {
        for name in found[3].trim_matches(['{', '}']).split(',') {
            names.insert(name.trim().to_string(), found[1].to_string());
        }
    }
    names
}

/// The edges between the nodes of colm, and from them to `crates`.
fn module_edges(crates: &BTreeSet<String>) -> BTreeSet<(String, String)> {
    let (modules, re_exports) = (modules(), re_exports());
    let mut edges = BTreeSet::new();
    for (module, path) in &modules {
        let (from, code) = (node(module, path), code(path));
        for name in used(&code, "crate").into_iter().chain(used(&code, "colm")) {
            let target = re_exports.get(&name).unwrap_or(&name);
            let to = modules.get(target).map(|path| node(target, path));
            edges.extend(to.filter(|to| *to != from).map(|to| (from.clone(), to)));
        }
        let used_crates =
            crates.iter().filter(|name| !used(&code, &name.replace('-', "_")).is_empty());
        edges.extend(used_crates.map(|name| (from.clone(), name.clone())));
    }
    edges
}

/// Our packages: folder and dependencies, with whether they are optional.
fn packages() -> BTreeMap<String, (String, BTreeMap<String, bool>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let folder = folder.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let dependencies = normal.map(|dependency| {
            let name = dependency["name"].as_str().unwrap().to_string();
            (name, dependency["optional"].as_bool().unwrap())
        });
        let name = package["name"].as_str().unwrap().to_string();
        packages.insert(name, (folder, dependencies.collect()));
    }
    packages
}

/// The diagram in the Mermaid language.
fn diagram() -> String {
    let packages = packages();
    let shown: BTreeSet<String> = packages
        .keys()
        .filter(|name| *name != "colm")
        .cloned()
        .chain(HOST.map(String::from))
        .collect();
    let mut lines = vec!["```mermaid".into(), "flowchart TD".into()];
    lines.push("  subgraph colm [\"colm (src/)\"]".into());
    let (folders, files): (Vec<_>, Vec<_>) =
        modules().into_iter().partition(|(_, path)| path.is_dir());
    lines.extend(folders.iter().map(|(module, _)| format!("    {module}[\"src/{module}/\"]")));
    let files: Vec<String> = files.into_iter().map(|(module, _)| format!("{module}.rs")).collect();
    lines.push(format!("    {API}[\"src/<br/>{}\"]", files.join("<br/>")));
    lines.push("  end".into());
    for name in &shown {
        match packages.get(name) {
            Some((folder, _)) => lines.push(format!("  {name}[\"{name}<br/>{folder}/\"]")),
            None => lines.push(format!("  {name}([{name}])")),
        }
    }
    for (from, to) in module_edges(&shown) {
        lines.push(format!("  {from} --> {to}"));
    }
    for (name, (_, dependencies)) in packages.iter().filter(|(name, _)| *name != "colm") {
        for (dependency, optional) in dependencies {
            if shown.contains(dependency) {
                let arrow = if *optional { "-.->" } else { "-->" };
                lines.push(format!("  {name} {arrow} {dependency}"));
            }
        }
    }
    lines.push("```\n".into());
    lines.join("\n")
}

#[test]
fn the_diagram_is_that_of_the_sources() {
    let (path, diagram) = (root().join(DOCUMENT), diagram());
    let text = read(&path);
    let (before, rest) = text.split_once(BEGIN).expect("the document has the first mark");
    let (found, after) = rest.split_once(END).expect("the document has the second mark");
    if std::env::var_os("COLM_UPDATE_DOCS").is_some() {
        fs::write(&path, [before, BEGIN, &diagram, END, after].concat()).unwrap();
        return;
    }
    assert_eq!(
        found, diagram,
        "{DOCUMENT} is stale; `COLM_UPDATE_DOCS=1 cargo test --test architecture` generates it again"
    );
}

#[test]
fn only_the_module_host_uses_the_engine() {
    let crates: BTreeSet<String> = packages().into_keys().chain(HOST.map(String::from)).collect();
    let edges = module_edges(&crates);
    let users = edges.iter().filter(|(_, to)| to == "mistralrs-core");
    assert_eq!(users.map(|(from, _)| from.as_str()).collect::<Vec<_>>(), ["host"]);
    let of_model = edges.iter().filter(|(from, _)| from == "model").map(|(_, to)| to.as_str());
    let unwanted = ["host", "serve"].map(|module| of_model.clone().any(|to| to == module));
    assert_eq!(unwanted, [false, false], "{edges:?}");
    assert!(!edges.iter().any(|(from, _)| from == "text"), "{edges:?}");
}

#[test]
fn paths_in_braces_are_found() {
    let code = "use crate::{a::b, c::{d, e}, F}; crate::g(); use other::h;";
    let expected = ["a", "c", "F", "g"].map(String::from).into();
    assert_eq!(used(code, "crate"), expected);
}
