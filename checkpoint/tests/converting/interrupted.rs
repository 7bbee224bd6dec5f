//! A conversion writes all or nothing, also when it is killed or fails.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use colm_checkpoint::Dtype;

use crate::model::{assert_error, converted, names, tensors};
use colm_testing::small_checkpoint::{config_json, parse, with, write_dense};

/// After a kill at any moment the folder is absent or complete, and the source is unchanged.
#[test]
fn a_killed_run_leaves_nothing_or_everything() {
    let wide = with(config_json(), |json| {
        json["hidden_size"] = 1024.into();
        json["intermediate_size"] = 4096.into();
        json["vocab_size"] = 2000.into();
    });
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dense(&dir.join("dense"), &parse(wide), Dtype::F32);
    let before = fs::read(dir.join("dense/model.safetensors")).unwrap();
    let mut killed = 0;
    for milliseconds in [0, 3, 10, 30, 60, 100, 200] {
        let mut running = Command::new(env!("CARGO_BIN_EXE_colm-convert"))
            .current_dir(dir)
            .args(["pack", "dense", "packed"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(milliseconds));
        running.kill().unwrap();
        let succeeded = running.wait().unwrap().success();
        killed += usize::from(!succeeded);
        if dir.join("packed").exists() {
            converted(dir, &["verify", "packed"]);
            fs::remove_dir_all(dir.join("packed")).unwrap();
        } else {
            assert!(!succeeded, "the run succeeded without writing the folder");
        }
    }
    assert!(killed > 0, "no run was killed in time");
    assert!(before == fs::read(dir.join("dense/model.safetensors")).unwrap());
    // The next run removes what the killed ones left.
    converted(dir, &["pack", "dense", "packed"]);
    converted(dir, &["verify", "packed"]);
    assert_eq!(names(dir), ["dense", "packed"]);
}

#[test]
fn an_existing_folder_is_replaced_only_with_force() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dense(&dir.join("dense"), &parse(config_json()), Dtype::F32);
    fs::write(dir.join("dense/tokenizer.json"), "{}").unwrap();
    fs::create_dir(dir.join("packed")).unwrap();
    fs::write(dir.join("packed/notes.txt"), "mine").unwrap();
    assert_error(dir, &["pack", "dense", "packed"], &["packed", "exists"]);
    assert_eq!(names(&dir.join("packed")), ["notes.txt"]);
    // An error leaves the existing folder alone, even with --force.
    assert_error(
        dir,
        &["extract", "dense", "packed", "--chains", "9", "--force"],
        &["--chains 9: expected 1 to 3"],
    );
    assert_eq!(names(&dir.join("packed")), ["notes.txt"]);
    converted(dir, &["pack", "dense", "packed", "--force"]);
    assert_eq!(names(dir), ["dense", "packed"]);
    assert!(names(&dir.join("packed")).contains(&"tokenizer.json".to_owned()));
    assert!(!names(&dir.join("packed")).contains(&"notes.txt".to_owned()));
    let config = parse(config_json());
    let expected = config.tensors(config.all_chains()).count();
    assert_eq!(tensors(&dir.join("packed")).len(), expected);
}

#[test]
fn the_source_is_never_the_destination() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dense(&dir.join("dense"), &parse(config_json()), Dtype::F32);
    let before = names(&dir.join("dense"));
    for destination in ["dense", "dense/packed", "dense/../dense", "."] {
        let output = crate::model::convert(dir, &["pack", "dense", destination, "--force"]);
        assert_eq!(output.status.code(), Some(1), "{destination}");
    }
    assert_eq!(names(&dir.join("dense")), before);
    assert_eq!(names(dir), ["dense"]);
}
