//! FIFOs, sockets, devices and folders in place of files: immediate errors that name them. They are never opened.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use colm_checkpoint::inspect::inspect;
use colm_checkpoint::{check_model_folder, Checkpoint, Source};
use rustix::fs::{mknodat, FileType, Mode, CWD};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{config_json, parse};

const INDEX: &str = "model.safetensors.index.json";
const SECOND: &str = "model-chain-00002-of-00003.safetensors";

/// Replaces a file with something else and returns how messages describe that.
fn stand_in(folder: &Folder, file: &str, kind: &str) -> &'static str {
    let path = folder.path(file);
    let _ = fs::remove_file(&path);
    match kind {
        "FIFO" => {
            mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            "it is a FIFO"
        }
        "socket" => {
            // The address of a socket must be short; the path may be long.
            let short = tempfile::tempdir().unwrap();
            drop(UnixListener::bind(short.path().join("s")).unwrap());
            fs::rename(short.path().join("s"), &path).unwrap();
            "it is a socket"
        }
        "device" => {
            symlink("/dev/zero", &path).unwrap();
            "it is a device"
        }
        _ => {
            fs::create_dir(&path).unwrap();
            "it is a folder"
        }
    }
}

#[test]
fn in_place_of_json() {
    for kind in ["FIFO", "socket", "device", "folder"] {
        for file in ["config.json", INDEX, "tokenizer.json", "generation_config.json"] {
            let folder = Folder::chains();
            let words = [file, stand_in(&folder, file, kind)];
            folder.one_problem(&words);
            if ["config.json", INDEX].contains(&file) {
                let error = inspect(&folder.dir).unwrap_err().to_string();
                assert!(words.iter().all(|word| error.contains(word)), "{error}");
            }
        }
    }
}

#[test]
fn in_place_of_weights() {
    for kind in ["FIFO", "socket", "device", "folder"] {
        for with_index in [true, false] {
            let folder = Folder::chains();
            if !with_index {
                fs::remove_file(folder.path(INDEX)).unwrap();
            }
            let words = [SECOND, stand_in(&folder, SECOND, kind)];
            folder.one_problem(&words);
            let config = parse(config_json());
            let error = Checkpoint::open(&folder.dir, &config, config.all_chains()).unwrap_err();
            assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
        }
        for (folder, file) in [
            (Folder::dense(), "model.safetensors"),
            (Folder::copied("state_dicts/strided"), "pytorch_model.bin"),
            (Folder::copied("state_dicts/sharded"), "pytorch_model-00002-of-00002.bin"),
        ] {
            let words = [file, stand_in(&folder, file, kind)];
            folder.one_problem(&words);
            let error = Source::open(&folder.dir).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}

#[test]
fn a_dangling_link_is_not_a_file() {
    for file in ["config.json", INDEX, SECOND, "tokenizer.json"] {
        let folder = Folder::chains();
        let _ = fs::remove_file(folder.path(file));
        symlink("nowhere", folder.path(file)).unwrap();
        let missing = if file == SECOND { "is missing: " } else { "" };
        folder.one_problem(&[file, missing, "it is a dangling symbolic link"]);
        fs::remove_file(folder.path(file)).unwrap();
        symlink(file, folder.path(file)).unwrap();
        folder.one_problem(&[file, "it cannot be read: Too many levels of symbolic links"]);
    }
}

/// Links that a download has not completed yet, or whose target was moved.
#[test]
fn dangling_links_to_weights_are_called_so() {
    for (folder, file, reason) in [
        (Folder::dense(), "model.safetensors", "link"),
        (Folder::copied("state_dicts/strided"), "pytorch_model.bin", "link"),
        (Folder::chains(), SECOND, "link; "),
    ] {
        fs::remove_file(folder.path(file)).unwrap();
        symlink("nowhere", folder.path(file)).unwrap();
        let words = format!("is missing: it is a dangling symbolic {reason}");
        folder.one_problem(&[file, &words]);
        let error = Source::open(&folder.dir).unwrap_err().to_string();
        assert!(error.contains(&words) && !error.ends_with(' '), "{error}");
    }
}

/// The check that `colm` makes before it reads a folder.
#[test]
fn a_config_that_is_not_a_file_is_not_called_missing() {
    for (kind, words) in [("FIFO", "it is a FIFO"), ("folder", "it is a folder")] {
        let folder = Folder::chains();
        stand_in(&folder, "config.json", kind);
        let error = check_model_folder(&folder.dir).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(words), "{error}");
    }
    let folder = Folder::chains();
    fs::remove_file(folder.path("config.json")).unwrap();
    symlink("nowhere", folder.path("config.json")).unwrap();
    let error = check_model_folder(&folder.dir).unwrap_err().to_string();
    assert!(error.contains("config.json: it is a dangling symbolic link"), "{error}");
    assert!(check_model_folder(&Folder::chains().dir).is_ok());
}
