//! What the documents say of this repository: citations, links and counts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of the repository with one of these endings.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 5, "{endings:?}: {found:?}");
    found
}

/// The anchors of a Markdown text, as GitHub makes them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn citations_name_headings_that_exist() {
    let citation = Regex::new(r"docs/([a-z]+\.md)#([a-z0-9-]+)").unwrap();
    let mut count = 0;
    for path in files(&[".rs", ".py", ".cu", ".cuh", ".h", ".md"]) {
        for found in citation.captures_iter(&read(&path)) {
            let anchors = anchors(&read(&root().join("docs").join(&found[1])));
            assert!(
                anchors.contains(&found[2]),
                "{}: {}; headings: {anchors:?}",
                path.display(),
                &found[0]
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count} citations");
}

#[test]
fn links_lead_to_files_and_headings() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    for path in files(&[".md"]) {
        let text = read(&path);
        for found in link.captures_iter(&text) {
            let target = &found[1];
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target} leads nowhere", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&read(&file));
                assert!(
                    anchors.contains(anchor),
                    "{}: {target}: headings: {anchors:?}",
                    path.display()
                );
            }
        }
    }
}

/// host/README.md says how many lines the patch adds and removes.
#[test]
fn the_size_of_the_patch_is_as_the_readme_says() {
    let patch = read(&root().join("host/mistralrs-core-0.8.1.patch"));
    let count = |sign: &str| {
        let header = sign.repeat(3);
        patch.lines().filter(|line| line.starts_with(sign) && !line.starts_with(&header)).count()
    };
    let (added, removed) = (count("+"), count("-"));
    let readme = read(&root().join("host/README.md"));
    let said = format!("adds {added} lines");
    assert!(readme.contains(&said), "host/README.md does not say: {said}");
    let said = format!("removes {removed}");
    assert!(readme.contains(&said), "host/README.md does not say: {said}");
}
