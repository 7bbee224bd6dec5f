//! Checks of the documents: citations, links, and the tables of host/README.md.

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

/// The files of the repository whose names have one of these endings.
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

/// The anchors that GitHub generates for the headings of a Markdown text.
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

/// Paths of this repository in the text, such as `src/host` in backticks. A name in capitals stands for others.
#[test]
fn paths_in_backticks_exist() {
    let folders = "src|kernels|checkpoint|prompt|host|docs|tests|examples|benches|models";
    let path = Regex::new(&format!(r"`((?:{folders})/[A-Za-z0-9_./-]*)`")).unwrap();
    let mut count = 0;
    for file in files(&[".md"]) {
        for found in path.captures_iter(&read(&file)) {
            let in_capitals =
                |name: &str| name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase());
            if found[1].split('/').any(in_capitals) {
                continue;
            }
            let exists = [root(), file.parent().unwrap()]
                .iter()
                .any(|folder| folder.join(&found[1]).exists());
            assert!(exists, "{}: {} does not exist", file.display(), &found[0]);
            count += 1;
        }
    }
    assert!(count > 20, "{count} paths");
}

/// The rows of the table under `heading`, without its header, as cells.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let heading = format!("## {heading}\n");
    let (_, section) = text.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    rows.map(|row| cells(row.trim_matches('|'))).collect()
}

/// A file of host/VERSION/.
struct Patch {
    name: String,
    /// What, Why, Test and Upstream.
    fields: [String; 4],
    diff: String,
}

impl Patch {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = read(path);
        let start = text.find("diff --git ").unwrap_or_else(|| panic!("{name}: no diff"));
        let (header, diff) = text.split_at(start);
        let header = header.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = header.as_str();
        let mut fields = ["Upstream", "Test", "Why", "What"].map(|field| {
            let start = format!(" {field}: ");
            let (before, value) =
                rest.rsplit_once(&start).unwrap_or_else(|| panic!("{name}: no {field}"));
            rest = before;
            value.to_string()
        });
        fields.reverse();
        assert!(!rest.is_empty() && fields.iter().all(|field| !field.is_empty()), "{name}");
        Self { name, fields, diff: diff.into() }
    }

    /// The number of lines added or removed.
    fn count(&self, sign: char) -> usize {
        let header = String::from(sign).repeat(3);
        let lines = self.diff.lines();
        lines.filter(|line| line.starts_with(sign) && !line.starts_with(&header)).count()
    }
}

/// The host versions in host/, each with its patches in the order in which host/apply applies them.
fn hosts() -> Vec<(String, Vec<Patch>)> {
    let entries = fs::read_dir(root().join("host")).unwrap().map(|entry| entry.unwrap().path());
    let mut hosts: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    hosts.sort();
    assert!(!hosts.is_empty());
    let host = |folder: PathBuf| {
        let version = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        (version, paths.iter().map(|path| Patch::read(path)).collect())
    };
    hosts.into_iter().map(host).collect()
}

#[test]
fn the_table_of_host_versions_has_the_counts_of_the_patches() {
    let rows = table(&read(&root().join("host/README.md")), "Host versions");
    let apply = read(&root().join("host/apply"));
    let applied = |name: &str| {
        let line = apply.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap().split_whitespace().next().unwrap().to_string()
    };
    let hosts = hosts();
    assert_eq!(rows.len(), hosts.len());
    for (row, (version, patches)) in rows.iter().zip(hosts) {
        let total = |sign| patches.iter().map(|patch| patch.count(sign)).sum::<usize>().to_string();
        let expected = [version.clone(), patches.len().to_string(), total('+'), total('-')];
        assert_eq!([0, 2, 3, 4].map(|cell| row[cell].clone()), expected);
        if version == applied("version") {
            assert_eq!((&*row[1], &*row[5]), (&*format!("`{}`", applied("checksum")), "in use"));
        }
    }
}

#[test]
fn the_tables_of_patches_list_each_patch_with_its_own_text() {
    let readme = read(&root().join("host/README.md"));
    for (version, patches) in hosts() {
        let rows = table(&readme, &format!("Patches for {version}"));
        assert_eq!(rows.len(), patches.len(), "{version}");
        for (index, (row, patch)) in rows.iter().zip(&patches).enumerate() {
            let name = &patch.name;
            assert!(name.starts_with(&format!("{:02}-", index + 1)), "{name}");
            assert_eq!(row[0], format!("[{name}]({version}/{name}.patch)"));
            assert_eq!(row[1].trim_start_matches("**Bug fix.** "), patch.fields[0], "{name}");
            assert_eq!(row[2..], patch.fields[1..], "{name}");
        }
    }
}

#[test]
fn the_tests_of_the_patches_exist() {
    let test = Regex::new(r"`((?:[a-z0-9_]+::)+)([a-z0-9_]+)`").unwrap();
    for patch in hosts().iter().flat_map(|(_, patches)| patches) {
        let field = &patch.fields[2];
        let tests: Vec<_> = test.captures_iter(field).collect();
        assert!(!tests.is_empty() || field.starts_with("Does not compile"), "{}", patch.name);
        for found in tests {
            let module =
                root().join("tests/it").join(found[1].trim_end_matches("::").replace("::", "/"));
            let file = [module.with_extension("rs"), module.join("mod.rs")];
            let file = file.iter().find(|file| file.exists());
            let file = file.unwrap_or_else(|| panic!("{}: no module {}", patch.name, &found[1]));
            let function = format!("fn {}()", &found[2]);
            assert!(read(file).contains(&function), "{}: no {function}", patch.name);
        }
    }
}

/// The patches contain no upstream source but the lines that they remove.
#[test]
fn patches_have_no_context_and_delete_no_files() {
    let line = Regex::new(
        r"^(diff --git a/\S+ b/\S+|new file mode 100644|--- (a/\S+|/dev/null)|\+\+\+ b/\S+|@@ -[0-9,]+ \+[0-9,]+ @@.*|[-+].*)$",
    );
    let line = line.unwrap();
    for patch in hosts().iter().flat_map(|(_, patches)| patches) {
        for text in patch.diff.lines() {
            let deletes = text.starts_with("+++ /dev/null");
            assert!(line.is_match(text) && !deletes, "{}: {text}", patch.name);
        }
    }
}
