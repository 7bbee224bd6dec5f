//! FIFOs, sockets and folders in the place of files: refused at once, by name, and never opened.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use colm_checkpoint::inspect::inspect;
use colm_checkpoint::{check_model_folder, Checkpoint, Source};
use rustix::fs::{mknodat, FileType, Mode, CWD};

use crate::common::{config_json, parse};
use crate::folder::Folder;

const INDEX: &str = "model.safetensors.index.json";
const SECOND: &str = "model-chain-00002-of-00003.safetensors";

/// Puts something else in the place of a file, and gives what is said of it.
fn stand_in(folder: &Folder, file: &str, kind: &str) -> &'static str {
    let path = folder.path(file);
    let _ = fs::remove_file(&path);
    match kind {
        "FIFO" => {
            mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            "it is a FIFO"
        }
        "socket" => {
            // Its path may be long, and the address of a socket may not.
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
fn in_the_place_of_json() {
    for kind in ["FIFO", "socket", "device", "folder"] {
        for file in ["config.json", INDEX, "tokenizer.json", "generation_config.json"] {
            let folder = Folder::chains();
            let words = [file, stand_in(&folder, file, kind)];
            folder.one_problem(&words);
            if ["config.json", INDEX].contains(&file) {
                let refused = inspect(&folder.dir).unwrap_err().to_string();
                assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
            }
        }
    }
}

#[test]
fn in_the_place_of_weights() {
    for kind in ["FIFO", "socket", "device", "folder"] {
        for with_index in [true, false] {
            let folder = Folder::chains();
            if !with_index {
                fs::remove_file(folder.path(INDEX)).unwrap();
            }
            let words = [SECOND, stand_in(&folder, SECOND, kind)];
            folder.one_problem(&words);
            let config = parse(config_json());
            let refused = Checkpoint::open(&folder.dir, &config, config.all_chains()).unwrap_err();
            assert!(words.iter().all(|word| refused.to_string().contains(word)), "{refused}");
        }
        for (folder, file) in [
            (Folder::dense(), "model.safetensors"),
            (Folder::copied("state_dicts/strided"), "pytorch_model.bin"),
            (Folder::copied("state_dicts/sharded"), "pytorch_model-00002-of-00002.bin"),
        ] {
            let words = [file, stand_in(&folder, file, kind)];
            folder.one_problem(&words);
            let refused = Source::open(&folder.dir).unwrap_err().to_string();
            assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        }
    }
}

#[test]
fn a_link_that_leads_nowhere_is_no_file() {
    for file in ["config.json", INDEX, SECOND, "tokenizer.json"] {
        let folder = Folder::chains();
        let _ = fs::remove_file(folder.path(file));
        symlink("nowhere", folder.path(file)).unwrap();
        let is_weights = file == SECOND;
        let words = if is_weights { "is missing" } else { "it is a dangling symbolic link" };
        folder.one_problem(&[file, words]);
        fs::remove_file(folder.path(file)).unwrap();
        symlink(file, folder.path(file)).unwrap();
        folder.one_problem(&[file, "it cannot be read: Too many levels of symbolic links"]);
    }
}

/// What `colm` asks before it reads a folder.
#[test]
fn a_config_that_is_no_file_is_not_said_to_be_missing() {
    for (kind, words) in [("FIFO", "it is a FIFO"), ("folder", "it is a folder")] {
        let folder = Folder::chains();
        stand_in(&folder, "config.json", kind);
        let refused = check_model_folder(&folder.dir).unwrap_err().to_string();
        assert!(refused.contains("config.json") && refused.contains(words), "{refused}");
    }
    let folder = Folder::chains();
    fs::remove_file(folder.path("config.json")).unwrap();
    symlink("nowhere", folder.path("config.json")).unwrap();
    let refused = check_model_folder(&folder.dir).unwrap_err().to_string();
    assert!(refused.contains("config.json: it is a dangling symbolic link"), "{refused}");
    assert!(check_model_folder(&Folder::chains().dir).is_ok());
}
