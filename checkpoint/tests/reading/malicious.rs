//! Malicious files give errors, without a panic or a huge allocation.

use serde_json::{json, Value};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{config_json, with};

const FILE: &str = "model.safetensors";
const STATE_DICT: &str = "pytorch_model.bin";

pub fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

/// Asserts the error for a checkpoint whose only weights are `file`.
fn assert_error(file: impl AsRef<[u8]>, words: &[&str]) {
    let folder = Folder::with_config(&config_json());
    folder.write(FILE, file);
    let problems = folder.problems();
    for word in words {
        assert!(problems[0].contains(word), "no {word:?} in: {}", problems[0]);
    }
}

fn entry(shape: Value, begin: u64, end: u64) -> Value {
    json!({"dtype": "U8", "shape": shape, "data_offsets": [begin, end]})
}

#[test]
fn headers_longer_than_the_file() {
    for length in [1, 1 << 20, u64::MAX, u64::MAX - 7, i64::MAX as u64] {
        assert_error(length.to_le_bytes(), &[FILE, &length.to_string()]);
    }
    assert_error([1, 2, 3], &["3 bytes long"]);
}

#[test]
fn offsets_that_overlap_leave_gaps_or_leave_the_file() {
    let overlapping = json!({"a": entry(json!([4]), 0, 4), "b": entry(json!([4]), 2, 6)});
    assert_error(safetensors(&overlapping.to_string(), 6), &["`b`", "2 to 6", "begin at 4"]);
    let gap = json!({"a": entry(json!([4]), 0, 4), "b": entry(json!([4]), 8, 12)});
    assert_error(safetensors(&gap.to_string(), 12), &["`b`", "begin at 4"]);
    let backwards = json!({"a": entry(json!([4]), 4, 0)});
    assert_error(safetensors(&backwards.to_string(), 4), &["`a`", "4 to 0"]);
    let outside = json!({"a": entry(json!([4]), 0, 4)});
    assert_error(safetensors(&outside.to_string(), 3), &["4 bytes of data; 3 bytes follow"]);
}

/// Added to the length of the header, these overflow 64 bits.
#[test]
fn offsets_near_the_largest_integer() {
    let size = (1u64 << 61) - 1;
    let tensors: serde_json::Map<_, _> =
        (0..8).map(|i| (format!("t{i}"), entry(json!([size]), i * size, (i + 1) * size))).collect();
    assert_error(
        safetensors(&Value::from(tensors).to_string(), 0),
        &["bytes of data; 0 bytes follow"],
    );
}

#[test]
fn shapes_whose_product_overflows_or_is_zero() {
    let huge = 1u64 << 40;
    for shape in [json!([huge, huge]), json!([huge, huge, 0]), json!([u64::MAX, 8])] {
        assert_error(
            safetensors(&json!({"a": entry(shape, 0, 0)}).to_string(), 0),
            &["`a` of shape"],
        );
    }
    let empty =
        json!({"model.norm.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}});
    let folder = Folder::with_config(&config_json());
    folder.write(FILE, safetensors(&empty.to_string(), 0));
    assert!(folder.problems().iter().any(|problem| problem.contains("shape [0]; expected [16]")));
}

#[test]
fn a_name_that_occurs_twice() {
    let one = r#""a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}"#;
    let other = r#""a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}"#;
    assert_error(safetensors(&format!("{{{one}, {other}}}"), 4), &["`a` occurs twice"]);

    let folder = Folder::chains();
    let index = r#"{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}"#;
    folder.write("model.safetensors.index.json", index);
    folder.one_problem(&["index.json", "`a` occurs twice"]);

    let folder = Folder::empty();
    folder.write("config.json", r#"{"model_type": "llama", "model_type": "mistral"}"#);
    folder.one_problem(&["config.json", "`model_type` occurs twice"]);
    folder.write("config.json", r#"{"model_type": "llama", "rope_scaling": {"a": 1, "a": 1}}"#);
    folder.one_problem(&["config.json", "`rope_scaling`: `a` occurs twice"]);
}

#[test]
fn json_that_is_nested_too_deep_or_is_not_text() {
    let nested = "[".repeat(100_000);
    assert_error(safetensors(&format!(r#"{{"__metadata__": {nested}"#), 0), &["not a JSON map"]);
    assert_error(safetensors(&format!(r#"{{"a": {nested}"#), 0), &["not a JSON map"]);
    let mut no_text = safetensors(r#"{"a": 1}"#, 0);
    no_text[10] = 0xff;
    assert_error(no_text, &["not a JSON map"]);

    for text in [nested.as_bytes(), &[b'{', b'"', 0xff, b'"'], b"", b"null", b"[]", b"{}"] {
        let folder = Folder::dense();
        folder.write("config.json", text);
        folder.one_problem(&["config.json"]);
        let folder = Folder::chains();
        folder.write("model.safetensors.index.json", text);
        folder.one_problem(&["index.json"]);
    }
}

/// The safetensors crate, with which other programs load the file, accepts a map of strings or null.
#[test]
fn metadata_that_other_loaders_reject() {
    let whole = std::fs::read(Folder::dense().path(FILE)).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    let with_metadata = |metadata: &str| {
        let mut tensors = header.clone();
        tensors.as_object_mut().unwrap().remove("__metadata__");
        let header = tensors.to_string().replacen('{', &format!("{{{metadata}, "), 1);
        let folder = Folder::dense();
        folder.write(FILE, [safetensors(&header, 0), whole[8 + length..].to_vec()].concat());
        folder
    };
    for taken in ["null", "{}", r#"{"format": "pt"}"#] {
        let folder = with_metadata(&format!("\"__metadata__\": {taken}"));
        assert_eq!(folder.problems(), [""; 0], "{taken}");
    }
    for (value, words) in [
        (r#"{"format": 1}"#, ["`__metadata__.format`", "expected a string"]),
        (r#"{"format": null}"#, ["`__metadata__.format`", "expected a string"]),
        (r#"{"format": {}}"#, ["`__metadata__.format`", "expected a string"]),
        ("1", ["`__metadata__`", "expected a map"]),
        ("[]", ["`__metadata__`", "expected a map"]),
        (r#"{}, "__metadata__": {}"#, ["`__metadata__`", "occurs twice"]),
    ] {
        let folder = with_metadata(&format!("\"__metadata__\": {value}"));
        folder.one_problem(&[FILE, words[0], words[1]]);
    }
}

#[test]
fn header_errors_name_the_field_and_its_type() {
    for (entry, field) in [
        (json!(1), "`a`: invalid type: integer `1`, expected a map"),
        (json!({"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}), "`a.shape[0]`"),
        (json!({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}), "a whole number"),
        (json!({"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}), "`a.dtype`"),
    ] {
        assert_error(safetensors(&json!({ "a": entry }).to_string(), 4), &[FILE, field]);
    }
}

#[test]
fn an_index_cannot_leave_its_folder() {
    for file in ["../x.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "x/", "./x"] {
        let folder = Folder::dense();
        let index = json!({"weight_map": {"model.norm.weight": file}});
        folder.write("model.safetensors.index.json", index.to_string());
        folder.one_problem(&["model.norm.weight", "plain name"]);
    }
}

#[test]
fn a_config_of_more_tensors_than_can_be_listed() {
    let folder = Folder::dense();
    let config = with(config_json(), |json| json["num_hidden_layers"] = json!(10_000));
    folder.write("config.json", config.to_string());
    let problems = folder.problems();
    assert!(problems.len() < 2000 && problems.iter().any(|p| p.contains("not listed")));
    // The same with a file that cannot be read.
    folder.write(FILE, "no header");
    folder.one_problem(&[FILE]);
}

/// An archive as torch.save writes it, without compression.
pub fn archive(pickle: &[u8]) -> Vec<u8> {
    archive_of(&[("x/data.pkl", pickle), ("x/data/0", &[0; 64])])
}

fn archive_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::{Cursor, Write};
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn assert_pickle_error(pickle: &[u8], words: &[&str]) {
    assert_archive_error(&archive(pickle), words);
}

fn assert_archive_error(archive: &[u8], words: &[&str]) {
    let folder = Folder::with_config(&config_json());
    folder.write(STATE_DICT, archive);
    let problems = folder.problems();
    for word in words {
        assert!(problems[0].contains(word), "no {word:?} in: {}", problems[0]);
    }
}

/// Each of these made candle's reader panic, overflow the stack or take gigabytes.
#[test]
fn pickles_that_break_candles_reader() {
    // An integer of 255 bytes, which is shifted out of range.
    let mut integer = vec![0x8a, 255];
    integer.extend([1; 255]);
    assert_pickle_error(&[&integer[..], b"."].concat(), &["has 255 bytes; expected at most 8"]);
    // A text of 4 GiB in a file of 6 bytes.
    assert_pickle_error(b"X\xff\xff\xff\xff.", &["ends within the instruction at byte 0"]);
    // A million nested tuples.
    let mut nested = vec![b')'];
    nested.extend([0x85; 1_000_000]);
    assert_pickle_error(&nested, &["more than 64 deep"]);
    // Lists in lists, and maps in maps; by one item and by all since a mark.
    let key = b"X\x01\0\0\0a";
    for (open, close, shallow) in [
        (b"]".to_vec(), &b"a"[..], "not a state dict"),
        (b"](".to_vec(), b"e", "not a state dict"),
        ([&b"}"[..], key].concat(), b"s", "`a` is not a tensor"),
        ([&b"}("[..], key].concat(), b"u", "`a` is not a tensor"),
    ] {
        let nested = [open.repeat(80), b"N".to_vec(), close.repeat(80), b".".to_vec()].concat();
        assert_pickle_error(&nested, &["more than 64 deep"]);
        let nested = [open.repeat(50), b"N".to_vec(), close.repeat(50), b".".to_vec()].concat();
        assert_pickle_error(&nested, &[shallow]);
    }
    // Each step doubles the object: 2^50.
    let mut doubled = b")q\x00".to_vec();
    for _ in 0..50 {
        doubled.extend(b"h\x00h\x00\x86q\x00");
    }
    assert_pickle_error(&[&doubled[..], b"."].concat(), &["data.pkl: ", "byte"]);
    let mut wide = b"]q\x00".to_vec();
    for _ in 0..50 {
        wide.extend(b"h\x00h\x00eq\x00");
    }
    assert_pickle_error(&[&wide[..], b"."].concat(), &["needs an object that is not there"]);
    // The call of a tensor with too few arguments.
    let call = b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n)Rs.";
    assert_pickle_error(call, &["`a` is not a tensor"]);
}

#[test]
fn pickles_that_are_no_state_dict() {
    assert_pickle_error(b"", &["ends within"]);
    assert_pickle_error(b"N.", &["not a state dict"]);
    assert_pickle_error(b".", &["needs an object"]);
    assert_pickle_error(b"}K\x01K\x02s.", &["not a state dict"]);
    // A pickle that runs a program in Python.
    let run = b"}X\x01\x00\x00\x00acos\nsystem\nX\x02\x00\x00\x00ls\x85Rs.";
    assert_pickle_error(run, &["`a` is not a tensor"]);
    // A protocol that PyTorch does not write.
    assert_pickle_error(b"\x80\x04\x95\0\0\0\0\0\0\0\0.", &["0x95"]);
}

/// The state dict of one tensor: its offset, sizes and strides as 4-byte integers.
fn tensor(offset: i32, sizes: [i32; 2], strides: [i32; 2]) -> Vec<u8> {
    let integer = |value: i32| [&b"J"[..], &value.to_le_bytes()].concat();
    let pair = |values: [i32; 2]| [integer(values[0]), integer(values[1]), vec![0x86]].concat();
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0\x30X\x03\0\0\0cpuK\x10tQ";
    let call = b"}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(";
    let parts =
        [call.to_vec(), storage.to_vec(), integer(offset), pair(sizes), pair(strides)].concat();
    [&parts[..], b"\x89)tRs."].concat()
}

#[test]
fn archives_in_another_byte_order_or_with_two_pickles_are_errors() {
    let pickle = tensor(8, [2, 4], [4, 1]);
    let entries = [("x/data.pkl", &pickle[..]), ("x/data/0", &[0; 64])];
    let with = |more| archive_of(&[&entries[..], &[more]].concat());
    assert_archive_error(&with(("x/byteorder", b"little")), &["missing"]);
    assert_archive_error(&with(("x/byteorder", b"big")), &["big"]);
    assert_archive_error(&with(("y/data.pkl", &pickle)), &["2"]);
}

#[test]
fn tensors_outside_of_their_storage() {
    // The storage has 64 bytes, 16 elements; this one fits.
    assert_pickle_error(&tensor(8, [2, 4], [4, 1]), &["missing"]);
    let outside = [
        tensor(9, [2, 4], [4, 1]),
        tensor(0, [5, 4], [4, 1]),
        tensor(0, [2, 2], [15, 1]),
        tensor(i32::MAX, [2, 4], [4, 1]),
        tensor(0, [i32::MAX, i32::MAX], [i32::MAX, i32::MAX]),
        // Stride 0: any number of elements in one place.
        tensor(0, [1 << 20, 1 << 10], [0, 0]),
    ];
    for pickle in outside {
        assert_pickle_error(&pickle, &["`a`", "does not fit its storage of 64 bytes"]);
    }
    assert_pickle_error(&tensor(-1, [2, 4], [4, 1]), &["offset"]);
    assert_pickle_error(&tensor(0, [-2, 4], [4, 1]), &["sizes"]);
}
