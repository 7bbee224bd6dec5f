//! Files with changed bytes never cause a panic, and every message names the folder.

use std::fs;

use colm_checkpoint::Source;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::folder::{Folder, AIR, FILE};
use crate::state_dict::{entries, state_dict};

/// Changes bytes among the first `part` of `file`. Positions are fractions of that part.
fn change(folder: &Folder, file: &str, part: usize, changes: &[(f64, u8)]) {
    let mut bytes = fs::read(folder.path(file)).unwrap();
    let part = part.min(bytes.len()) as f64;
    for &(at, value) in changes {
        bytes[(at * part) as usize] = value;
    }
    folder.write(file, bytes);
}

/// Asserts that every problem names the folder, and that it can be opened if it has none.
fn assert_consistent(folder: &Folder) {
    let dir = folder.dir.to_string_lossy();
    let mut said = folder.problems();
    let found_problems = !said.is_empty();
    match Source::open(&folder.dir) {
        Ok(source) => {
            // A changed config may describe the same tensors in another order.
            for tensor in source.config().tensors(source.config().all_chains()) {
                assert!(!source.tensor(&tensor).unwrap().bytes().is_empty());
            }
        }
        Err(error) => {
            assert!(found_problems, "no problems, but: {error}");
            said.push(error.to_string());
        }
    }
    for said in said {
        assert!(said.contains(&*dir), "no {dir} in: {said}");
        assert!(said.len() < 5_000, "{} bytes", said.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn params(changes in vec((0. ..1., any::<u8>()), 1..4)) {
        let folder = Folder::golden(AIR);
        change(&folder, "params.json", usize::MAX, &changes);
        assert_consistent(&folder);
    }

    /// Digits keep the text valid.
    #[test]
    fn digits_of_params(changes in vec((0. ..1., prop::sample::select(&b"0123456789"[..])), 1..4)) {
        let folder = Folder::golden(AIR);
        let text = fs::read(folder.path("params.json")).unwrap();
        let digits: Vec<_> = (0..text.len()).filter(|&at| text[at].is_ascii_digit()).collect();
        let mut changed = text.clone();
        for (at, digit) in changes {
            changed[digits[(at * digits.len() as f64) as usize]] = digit;
        }
        folder.write("params.json", changed);
        assert_consistent(&folder);
    }

    #[test]
    fn headers(changes in vec((0. ..1., any::<u8>()), 1..4)) {
        let folder = Folder::golden(AIR);
        change(&folder, FILE, 4_000, &changes);
        assert_consistent(&folder);
    }

    #[test]
    fn state_dicts(changes in vec((0. ..1., any::<u8>()), 1..4)) {
        let folder = Folder::golden(AIR);
        let tensors = folder.tensors();
        folder.remove(FILE);
        folder.write("a.pth", state_dict(entries(&tensors)));
        change(&folder, "a.pth", 6_000, &changes);
        assert_consistent(&folder);
    }
}
