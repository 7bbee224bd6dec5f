//! Files with changed, missing or random bytes never cause a panic.

use std::fs;

use colm_checkpoint::Source;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{json, Map, Value};

use crate::folder::Folder;
use crate::malicious::archive;
use colm_testing::small_checkpoint::config_json;

/// A changed byte, or the end of the file. Its position is a fraction of the file.
#[derive(Clone, Debug)]
enum Change {
    Byte { at: f64, value: u8 },
    End { at: f64 },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (0. ..1., any::<u8>()).prop_map(|(at, value)| Change::Byte { at, value }),
        1 => (0. ..1.).prop_map(|at| Change::End { at }),
    ]
}

/// Applies changes to the first `part` bytes.
fn apply(changes: &[Change], bytes: &mut Vec<u8>, part: usize) {
    for change in changes {
        let place = |at: f64| (at * part.min(bytes.len()) as f64) as usize;
        match *change {
            Change::Byte { at, value } => {
                let place = place(at);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            Change::End { at } => bytes.truncate(place(at)),
        }
    }
}

/// Numbers that overflow easily.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20u64,
        (0..64u32).prop_map(|shift| 1 << shift),
        (0..64u32).prop_map(|shift| (1u64 << shift).wrapping_sub(1)),
        (0..20u64).prop_map(|less| u64::MAX - less),
    ]
}

fn header() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("model.norm.weight"), Just("a"), Just("lm_head.weight")];
    let dtype = prop_oneof![Just("U8"), Just("F32"), Just("F64"), Just("F4")];
    let entry = (dtype, vec(number(), 0..4), number(), number(), any::<bool>());
    vec((name, entry), 0..6).prop_map(|entries| {
        let mut tensors = Map::new();
        let mut end = 0;
        for (i, (name, (dtype, shape, from, to, following))) in entries.into_iter().enumerate() {
            // Consecutive offsets reach more of the reader.
            let bytes = shape.iter().fold(1u64, |product, &dim| product.wrapping_mul(dim));
            let (begin, stop) = if following { (end, bytes.wrapping_add(end)) } else { (from, to) };
            end = stop;
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, stop]});
            tensors.insert(format!("{name}{i}"), entry);
        }
        Value::Object(tensors)
    })
}

/// Asserts that every problem names the folder, and that the folder can be opened if it has none.
/// Returns whether it has none.
fn assert_consistent(folder: &Folder) -> bool {
    let dir = folder.dir.to_string_lossy();
    let problems = folder.problems();
    for problem in &problems {
        assert!(problem.contains(&*dir), "no {dir} in: {problem}");
    }
    match Source::open(&folder.dir) {
        Ok(_) => problems.is_empty(),
        Err(error) => {
            assert!(!problems.is_empty(), "no problems, but: {error}");
            assert!(error.to_string().contains(&*dir), "no {dir} in: {error}");
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn safetensors_files_with_changed_headers(changes in vec(change(), 1..8)) {
        let folder = Folder::dense();
        let mut bytes = fs::read(folder.path("model.safetensors")).unwrap();
        let header = 8 + usize::from(bytes[0]) + 256 * usize::from(bytes[1]);
        apply(&changes, &mut bytes, header);
        folder.write("model.safetensors", bytes);
        assert_consistent(&folder);
    }

    #[test]
    fn safetensors_files_with_random_headers(header in header(), data in 0..64usize) {
        let folder = Folder::with_config(&config_json());
        let header = header.to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 1);
        folder.write("model.safetensors", file);
        // No such file is a complete model.
        prop_assert!(!assert_consistent(&folder));
    }

    #[test]
    fn state_dicts_with_changed_bytes(changes in vec(change(), 1..8)) {
        let folder = Folder::copied("state_dicts/strided");
        let mut bytes = fs::read(folder.path("pytorch_model.bin")).unwrap();
        // The pickle comes first. Changes of the archive's directory at the end reach less code.
        let part = if changes.len() % 2 == 0 { 2300 } else { bytes.len() };
        apply(&changes, &mut bytes, part);
        folder.write("pytorch_model.bin", bytes);
        assert_consistent(&folder);
    }

    #[test]
    fn random_pickles(
        instructions in vec(
            prop_oneof![
                proptest::sample::select(&b"N\x88\x89)]}(\x85\x86\x87tQR\x81baseu."[..])
                    .prop_map(|code| vec![code]),
                any::<u8>().prop_map(|value| vec![b'K', value]),
                (0..3u8).prop_map(|id| vec![b'q', id]),
                (0..3u8).prop_map(|id| vec![b'h', id]),
                vec(any::<u8>(), 0..12).prop_map(|bytes| [&[0x8a, bytes.len() as u8][..], &bytes].concat()),
                Just(b"X\x01\0\0\0a".to_vec()),
                Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
            ],
            0..200,
        )
    ) {
        let folder = Folder::with_config(&config_json());
        folder.write("pytorch_model.bin", archive(&[&instructions.concat()[..], b"."].concat()));
        prop_assert!(!assert_consistent(&folder));
    }

    #[test]
    fn configs_and_indices_with_changed_bytes(changes in vec(change(), 1..8), of_index: bool) {
        let folder = Folder::chains();
        let file = if of_index { "model.safetensors.index.json" } else { "config.json" };
        let mut bytes = fs::read(folder.path(file)).unwrap();
        let length = bytes.len();
        apply(&changes, &mut bytes, length);
        folder.write(file, bytes);
        assert_consistent(&folder);
    }
}
