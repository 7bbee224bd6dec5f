//! Side files that cannot be copied: `verify` and the conversions name them, before anything is written.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;

use colm_checkpoint::verify::verify;
use colm_checkpoint::Dtype;
use rustix::fs::{mknodat, FileType, Mode, CWD};

use crate::model::{assert_error, converted, names};
use colm_testing::small_checkpoint::{config_json, parse, write_chains};

const FILES: [&str; 15] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "README.md",
    "LICENSE",
    "NOTICE.txt",
    "SOURCE_README.md",
];
const DOCUMENTS: [&str; 4] = ["README.md", "LICENSE", "NOTICE.txt", "SOURCE_README.md"];

/// Replaces the file with something else and returns how messages describe that.
type Fault = fn(&Path) -> &'static str;

fn too_long(path: &Path) -> &'static str {
    File::create(path).unwrap().set_len(10 << 30).unwrap();
    "it is longer than 100000000 bytes"
}

fn folder(path: &Path) -> &'static str {
    fs::create_dir(path).unwrap();
    "it is a folder; expected a regular file"
}

fn fifo(path: &Path) -> &'static str {
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    "it is a FIFO; expected a regular file"
}

fn device(path: &Path) -> &'static str {
    symlink("/dev/zero", path).unwrap();
    "it is a device; expected a regular file"
}

fn broken_link(path: &Path) -> &'static str {
    symlink("nowhere", path).unwrap();
    "it is a dangling symbolic link"
}

fn link_to_itself(path: &Path) -> &'static str {
    symlink(path.file_name().unwrap(), path).unwrap();
    "it cannot be read: Too many levels of symbolic links"
}

/// A regular file that can be opened but not read, even by root.
fn unreadable(path: &Path) -> &'static str {
    symlink("/proc/self/mem", path).unwrap();
    "it cannot be read: Input/output error"
}

/// The messages of `verify` for `dir`.
fn problems(dir: &Path) -> Vec<String> {
    verify(dir, None, |_| ()).iter().map(ToString::to_string).collect()
}

/// Asserts that `verify` finds this one problem, and that `unpack` fails because of it and writes nothing.
fn assert_side_file_error(dir: &Path, file: &str, why: &str) {
    let said = format!("model/{file}: {why}");
    assert_error(dir, &["unpack", "model", "dense"], &[&said]);
    assert_eq!(names(dir), ["model"]);
    if why.contains("Input/output") && !file.ends_with(".json") && !file.ends_with(".jinja") {
        return; // `verify` does not read these
    }
    let found = problems(&dir.join("model"));
    assert!(found.len() == 1 && found[0].contains(&said), "{file}, {why}: {found:#?}");
}

#[test]
fn unreadable_side_files_are_named() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let model = dir.join("model");
    write_chains(&model, &parse(config_json()), Dtype::F32);
    fs::create_dir(model.join("additional_chat_templates")).unwrap();
    let faults: [Fault; 7] =
        [too_long, folder, fifo, device, broken_link, link_to_itself, unreadable];
    for file in FILES {
        for fault in faults {
            let path = model.join(file);
            let why = fault(&path);
            if !(why.contains("folder") && DOCUMENTS.contains(&file)) {
                assert_side_file_error(dir, file, why);
            }
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        }
    }
    assert_eq!(problems(&model), [""; 0]);
}

/// Folders like README_images are ignored, and so are files in the templates' folder that are not templates.
#[test]
fn files_that_are_not_copied_are_not_checked() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let model = dir.join("model");
    write_chains(&model, &parse(config_json()), Dtype::F32);
    let templates = model.join("additional_chat_templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("tool_use.jinja"), "{{ 1 }}").unwrap();
    fs::create_dir(templates.join("notes")).unwrap();
    fs::create_dir(model.join("README_files")).unwrap();
    fifo(&model.join("other.json"));
    assert_eq!(problems(&model), [""; 0]);
    converted(dir, &["unpack", "model", "dense"]);
    let expected = ["additional_chat_templates", "config.json", "model.safetensors"];
    assert_eq!(names(&dir.join("dense")), expected);
    assert_eq!(names(&dir.join("dense/additional_chat_templates")), ["tool_use.jinja"]);
}

#[test]
fn the_folder_of_templates_must_be_a_folder() {
    let faults: [(Fault, &str); 4] = [
        (fifo, "it is a FIFO; expected a folder"),
        (too_long, "it is a file; expected a folder"),
        (broken_link, "it is a dangling symbolic link"),
        (link_to_itself, "it cannot be read"),
    ];
    for (fault, why) in faults {
        let temporary = tempfile::tempdir().unwrap();
        write_chains(&temporary.path().join("model"), &parse(config_json()), Dtype::F32);
        fault(&temporary.path().join("model/additional_chat_templates"));
        assert_side_file_error(temporary.path(), "additional_chat_templates", why);
    }
}

#[test]
fn templates_are_text() {
    let temporary = tempfile::tempdir().unwrap();
    let model = temporary.path().join("model");
    write_chains(&model, &parse(config_json()), Dtype::F32);
    fs::write(model.join("chat_template.jinja"), [b'a', 0xff]).unwrap();
    let found = problems(&model);
    assert!(found.len() == 1 && found[0].contains("not valid UTF-8 from byte 1 on"), "{found:#?}");
}

/// The message used to say that the new file cannot be written.
#[test]
fn files_without_permission_are_named() {
    if rustix::process::geteuid().is_root() {
        return; // root can read them
    }
    for file in ["tokenizer.json", "merges.txt", "chat_template.jinja"] {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("model").join(file);
        write_chains(&temporary.path().join("model"), &parse(config_json()), Dtype::F32);
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        assert_side_file_error(temporary.path(), file, "it cannot be read: Permission denied");
    }
}
