//! `--force` replaces the old folder in one step; folders of interrupted runs are removed.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use colm_checkpoint::convert::to_chain_layout;
use colm_checkpoint::{Dtype, Source};

use crate::model::{assert_error, convert, converted, names};
use colm_testing::small_checkpoint::{config_json, parse, write_dense};

fn dense() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_dense(&folder.path().join("dense"), &parse(config_json()), Dtype::F32);
    folder
}

/// The id of a process that has ended.
fn dead() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[cfg(target_os = "linux")]
#[test]
fn the_folder_exists_at_every_moment() {
    let folder = dense();
    let packed = folder.path().join("packed");
    converted(folder.path(), &["pack", "dense", "packed"]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(packed.join("config.json").exists(), "absent");
            }
        });
        let source = Source::open(&folder.path().join("dense")).unwrap();
        let plan = to_chain_layout(&source).unwrap();
        let written: Vec<_> =
            (0..20).map(|_| plan.write(&source, &packed, true, |_| ()).is_ok()).collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(written, [true; 20]);
    });
    assert_eq!(names(folder.path()), ["dense", "packed"]);
}

#[test]
fn threads_can_write_the_same_folder() {
    let folder = dense();
    let source = Source::open(&folder.path().join("dense")).unwrap();
    let plan = to_chain_layout(&source).unwrap();
    let packed = folder.path().join("packed");
    thread::scope(|scope| {
        let write = || plan.write(&source, &packed, true, |_| ());
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
    assert_eq!(names(folder.path()), ["dense", "packed"]);
    converted(folder.path(), &["verify", "packed"]);
}

#[cfg(unix)]
#[test]
fn the_target_of_a_link_is_replaced() {
    use std::os::unix::fs::symlink;
    let folder = dense();
    let dir = folder.path();
    fs::create_dir_all(dir.join("elsewhere/real")).unwrap();
    fs::write(dir.join("elsewhere/real/notes.txt"), "mine").unwrap();
    symlink("elsewhere/real", dir.join("link")).unwrap();
    assert_error(dir, &["pack", "dense", "link"], &["link", "exists"]);
    for destination in ["link", "link/"] {
        converted(dir, &["pack", "dense", destination, "--force"]);
        assert!(dir.join("link").is_symlink());
        assert!(!dir.join("elsewhere/real").is_symlink());
        assert!(!names(&dir.join("elsewhere/real")).contains(&"notes.txt".into()));
        converted(dir, &["verify", "elsewhere/real"]);
        assert_eq!(names(dir), ["dense", "elsewhere", "link"]);
        assert_eq!(names(&dir.join("elsewhere")), ["real"]);
    }
    // A link may lead to the source.
    symlink("dense", dir.join("same")).unwrap();
    assert_error(dir, &["pack", "dense", "same", "--force"], &["same folder"]);
    symlink("nothing", dir.join("broken")).unwrap();
    for force in [&["pack", "dense", "broken"][..], &["pack", "dense", "broken", "--force"]] {
        assert_error(dir, force, &["broken", "dangling"]);
    }
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    symlink("notes.txt", dir.join("file")).unwrap();
    assert_error(dir, &["pack", "dense", "file", "--force"], &["exists"]);
}

/// The stderr of a conversion to `packed`.
fn notes(dir: &Path, force: bool) -> String {
    let mut arguments = vec!["pack", "dense", "packed"];
    arguments.extend(force.then_some("--force"));
    String::from_utf8(convert(dir, &arguments).stderr).unwrap()
}

#[test]
fn folders_of_dead_processes_are_removed() {
    let folder = dense();
    let dir = folder.path();
    let (dead, alive) = (dead(), std::process::id());
    let make = |name: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("model.safetensors"), "x").unwrap();
    };
    let gone = [format!("packed.partial-{dead}"), format!("packed.partial-{dead}-3")];
    let old = format!("packed.replaced-{dead}-0");
    let kept = [
        format!("packed.partial-{alive}-0"),
        format!("packed.partial-{dead}-x"),
        format!("packed2.partial-{dead}-0"),
    ];
    gone.iter().chain([&old]).chain(&kept).for_each(|name| make(name));
    fs::write(dir.join(format!("packed.partial-{dead}-9")), "a file").unwrap();

    // Nothing has the final name, so the old folder is the only copy.
    let said = notes(dir, false);
    for (name, words) in
        [(&gone[0], "is removed"), (&gone[1], "is removed"), (&old, "stays"), (&kept[0], "stays")]
    {
        let told = said.lines().any(|line| line.contains(&format!("{name} {words}")));
        assert!(told, "no {name} {words} in: {said}");
    }
    assert_eq!(said.matches("note:").count(), 4, "{said}");
    assert!(gone.iter().all(|name| !dir.join(name).exists()) && dir.join(&old).exists());

    // A run that fails early removes nothing.
    make(&gone[0]);
    notes(dir, false);
    assert!(dir.join(&gone[0]).exists() && dir.join(&old).exists());
    notes(dir, true);
    assert!(!dir.join(&gone[0]).exists() && !dir.join(&old).exists());
    assert!(kept.iter().all(|name| dir.join(name).join("model.safetensors").exists()));
    assert!(dir.join(format!("packed.partial-{dead}-9")).exists());
}

/// The id of a process in another container means nothing here.
#[cfg(target_os = "linux")]
#[test]
fn a_locked_folder_is_kept() {
    let folder = dense();
    let dir = folder.path();
    let name = format!("packed.partial-{}-0", dead());
    fs::create_dir(dir.join(&name)).unwrap();
    let lock = File::open(dir.join(&name)).unwrap();
    lock.lock().unwrap();
    assert!(notes(dir, true).contains(&format!("{name} stays")));
    assert!(dir.join(&name).exists());
    drop(lock);
    assert!(notes(dir, true).contains(&format!("{name} is removed")));
    assert!(!dir.join(&name).exists());
}

/// All files of folder `dir`, by name.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

/// `nope/..` would lead into the source once `nope` exists.
#[test]
fn a_parent_of_a_missing_folder_is_refused() {
    let folder = dense();
    let dir = folder.path();
    let before = contents(&dir.join("dense"));
    for destination in ["nope/../dense", "nope/../dense/sub", "dense/nope/../../new", "nope/.."] {
        for arguments in [
            &["extract", "dense", destination, "--chains", "1", "--force"][..],
            &["cast", "dense", destination, "--dtype", "bf16"],
        ] {
            assert_error(dir, arguments, &[destination, "nope does not exist", "without `..`"]);
        }
    }
    assert_eq!(contents(&dir.join("dense")), before);
    assert_eq!(names(dir), ["dense"]);
    // After an existing folder it leads somewhere.
    fs::create_dir(dir.join("there")).unwrap();
    let same = ["extract", "dense", "there/../dense", "--chains", "1", "--force"];
    assert_error(dir, &same, &["same folder"]);
    converted(dir, &["pack", "dense", "there/../packed"]);
    assert_eq!(names(dir), ["dense", "packed", "there"]);
}

/// A folder of links, as `ln -s full/* source/` makes it.
#[cfg(unix)]
#[test]
fn links_of_the_source_into_the_destination_are_refused() {
    use std::os::unix::fs::symlink;
    let folder = dense();
    let dir = folder.path();
    converted(dir, &["pack", "dense", "full"]);
    fs::create_dir(dir.join("source")).unwrap();
    for name in names(&dir.join("full")) {
        symlink(Path::new("../full").join(&name), dir.join("source").join(name)).unwrap();
    }
    let before = contents(&dir.join("full"));
    let extract = ["extract", "source", "full", "--chains", "1", "--force"];
    assert_error(dir, &extract, &["source/", "leads into full", "replaced"]);
    // A file that is not read, of a later chain.
    let source = dir.join("source");
    let later = "model-chain-00003-of-00003.safetensors";
    for name in names(&source).iter().filter(|name| *name != later) {
        fs::remove_file(source.join(name)).unwrap();
        fs::copy(dir.join("full").join(name), source.join(name)).unwrap();
    }
    assert_error(dir, &extract, &[later, "leads into full"]);
    assert_eq!(contents(&dir.join("full")), before);
    converted(dir, &["extract", "source", "small", "--chains", "1"]);
    assert_eq!(names(dir), ["dense", "full", "small", "source"]);
    // The source itself.
    symlink("../dense", dir.join("small/link")).unwrap();
    let extract = ["extract", "small/link", "small", "--chains", "1", "--force"];
    assert_error(dir, &extract, &["small/link", "leads into small", "replaced"]);
    assert!(dir.join("small/link").is_symlink());
}

#[test]
fn a_failed_conversion_leaves_no_folders_behind() {
    let folder = dense();
    let dir = folder.path();
    // The last value is too large for f16, which is found while writing.
    let path = dir.join("dense/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes.extend(1e6f32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    fs::create_dir(dir.join("a")).unwrap();
    let words = ["finite values are too large"];
    assert_error(dir, &["cast", "dense", "a/b/c/d", "--dtype", "f16"], &words);
    assert!(names(&dir.join("a")).is_empty());
    converted(dir, &["cast", "dense", "a/b/c/d", "--dtype", "bf16"]);
    assert_eq!(names(&dir.join("a/b/c")), ["d"]);
}
