//! Damages one file of a model in a way that is determined by a seed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use colm_checkpoint::abbreviate;
use serde_json::{json, Value};

/// Reproducible random numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// A placeholder in a JSON value for text that serde cannot represent.
const RAW: &str = "@raw@";
/// A placeholder for a field that occurs twice.
const TWICE: &str = "@twice@";

/// A wrong value, as JSON text.
fn other_value(random: &mut Random) -> String {
    let numbers: Vec<_> =
        "0 -1 1 1.0 1e3 0.5 1e30 -1e-30 1e999 1099511627776 1000000000 2147483648 \
                           18446744073709551615 18446744073709551616 NaN Infinity -Infinity"
            .split_whitespace()
            .collect();
    let values = ["null", "true", "false", "\"\"", "[]", "{}", "[1]", "\"x\"", "[[]]", "nul", ""];
    match random.below(8) {
        0..4 => random.of(&numbers).into(),
        4..6 => random.of(&values).into(),
        6 => format!("\"{}\"", random.of(&["x", "é", "\\u0000", "\\ud800", "../"]).repeat(200_000)),
        _ => {
            let depth = random.of(&[100, 127, 128, 200, 100_000]);
            let end = random.of(&["]", ""]).repeat(depth);
            format!("{}{end}", random.of(&["[", "{\"a\":["]).repeat(depth))
        }
    }
}

/// A random map or list within `json`, or `json` itself.
fn random_part<'a>(mut json: &'a mut Value, random: &mut Random) -> &'a mut Value {
    for _ in 0..random.below(4) {
        let is_inner = |value: &Value| {
            value.as_object().is_some_and(|map| !map.is_empty())
                || value.as_array().is_some_and(|list| !list.is_empty())
        };
        let keys: Vec<_> = match json {
            Value::Object(map) => map
                .iter()
                .filter(|(_, value)| is_inner(value))
                .map(|(key, _)| key.clone())
                .collect(),
            _ => Vec::new(),
        };
        if keys.is_empty() {
            break;
        }
        json = &mut json[&keys[random.below(keys.len())]];
    }
    json
}

/// Changes a value, a name or an entry of JSON.
fn change_json(text: &str, random: &mut Random) -> (String, Vec<u8>) {
    let mut json: Value = serde_json::from_str(text).unwrap();
    let part = random_part(&mut json, random);
    let mut twice = String::new();
    let what = match part {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).unwrap().clone();
            match random.below(8) {
                0 => {
                    map.remove(&key);
                    format!("no {key}")
                }
                1 => {
                    map.insert(TWICE.into(), json!(0));
                    twice = key.clone();
                    format!("{key} twice")
                }
                2 => {
                    let value = map.remove(&key).unwrap();
                    map.insert(format!("{key}x"), value);
                    format!("{key} by another name")
                }
                3 => {
                    let other = map.keys().nth(random.below(map.len())).unwrap().clone();
                    let value = map[&key].clone();
                    map[&key] = map.insert(other.clone(), value).unwrap();
                    format!("{key} and {other} exchanged")
                }
                _ => {
                    map.insert(key.clone(), json!(RAW));
                    format!("another value of {key}")
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = random.below(list.len());
            match random.below(3) {
                0 => drop(list.remove(at)),
                1 => list.insert(at, json!(RAW)),
                _ => list[at] = json!(RAW),
            }
            format!("a list changed at {at}")
        }
        other => {
            *other = json!(RAW);
            "all another value".into()
        }
    };
    let raw = other_value(random);
    let named = serde_json::to_string(&twice).unwrap();
    let text = serde_json::to_string(&json).unwrap();
    let text = text.replace(&format!("\"{TWICE}\":0"), &format!("{named}:{raw}"));
    let text = text.replace(&format!("\"{RAW}\""), &raw);
    (format!("{what}: {}", abbreviate(&raw)), text.into_bytes())
}

/// Changes, inserts or cuts off bytes of a file, at a random place within its first `length` bytes.
fn change_bytes(mut bytes: Vec<u8>, length: usize, random: &mut Random) -> (String, Vec<u8>) {
    match random.below(5) {
        0 => {
            bytes.truncate(random.below(length + 1));
            (format!("cut after {} bytes", bytes.len()), bytes)
        }
        1 => {
            let inserted =
                random.of(&[&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\0", b"{", b"\"", b"NaN"]);
            let at = random.of(&[0, random.0 as usize % (length + 1)]);
            bytes.splice(at..at, inserted.iter().copied());
            (format!("{inserted:?} inserted at {at}"), bytes)
        }
        _ => {
            let count = 1 + random.below(4);
            for _ in 0..count {
                let at = random.below(length);
                bytes[at] = random.of(&[bytes[at] ^ 1, bytes[at] ^ 0x80, b' ', b'9', b'"', 0]);
            }
            (format!("{count} bytes changed"), bytes)
        }
    }
}

/// Changes the header of a safetensors file, or the length before it.
fn change_header(bytes: Vec<u8>, random: &mut Random) -> (String, Vec<u8>) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let length = u64::from_le_bytes(*length);
    let (header, data) = rest.split_at(length as usize);
    let file = |length: u64, header: &[u8]| [&length.to_le_bytes()[..], header, data].concat();
    match random.below(8) {
        0 => {
            let lengths =
                [0, 1, length - 1, length + 1, length * 2, 100_000_001, u64::MAX, u64::MAX - 7];
            let other = random.of(&lengths);
            (format!("a header of {other} bytes"), file(other, header))
        }
        1 => {
            let end = random.of(&[1, 8, data.len() / 2, data.len()]);
            (format!("{end} bytes of data fewer"), bytes[..bytes.len() - end].to_vec())
        }
        2 | 3 => change_bytes(bytes.clone(), 8 + header.len(), random),
        4 => {
            let mut json: Value = serde_json::from_slice(header).unwrap();
            let tensors = json.as_object_mut().unwrap();
            let name = tensors.keys().nth(random.below(tensors.len())).unwrap().clone();
            let ends = [0, 1, data.len() as u64 + 1, u64::MAX, u64::MAX / 2, 1 << 40];
            let offsets = [random.of(&ends), random.of(&ends)];
            tensors[&name]["data_offsets"] = json!(offsets);
            let header = json.to_string();
            (format!("{name} at {offsets:?}"), file(header.len() as u64, header.as_bytes()))
        }
        _ => {
            let (what, header) = change_json(std::str::from_utf8(header).unwrap(), random);
            (what, file(header.len() as u64, &header))
        }
    }
}

/// Fills `dir` with links to the files of the model in `model`, a CoLM of four chains. One file is changed: one of
/// `json_files`, or the header of a weight file. Returns a description of the change.
pub fn damage(model: &Path, json_files: &[&str], dir: &Path, seed: u64) -> String {
    let mut random = Random(seed);
    let file = match random.below(2) {
        0 => random.of(json_files).to_owned(),
        _ => format!("model-chain-0000{}-of-00004.safetensors", 1 + random.below(4)),
    };
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if *name != *file {
            symlink(&path, dir.join(name)).unwrap();
        }
    }
    let bytes = fs::read(model.join(&file)).unwrap();
    let (what, changed) = match (file.ends_with(".json"), random.below(3)) {
        (false, _) => change_header(bytes, &mut random),
        (true, 0) => {
            let length = bytes.len();
            change_bytes(bytes, length, &mut random)
        }
        (true, _) => change_json(std::str::from_utf8(&bytes).unwrap(), &mut random),
    };
    fs::write(dir.join(&file), changed).unwrap();
    format!("{file}: {what}")
}
