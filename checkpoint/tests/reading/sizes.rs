//! Configs with absurd sizes give an answer or an error, quickly and in little memory.

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use colm_checkpoint::inspect::inspect;
use colm_checkpoint::{Checkpoint, ColmConfig, Source};
use serde_json::{json, Value};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{air_json, config_json, with};

const VALUES: [u64; 9] =
    [0, 1, 3, 10_000, 1_000_000_000, i32::MAX as u64, 1_000_000_000_000, 1 << 40, u64::MAX];

/// The processor time of this thread, so that a busy machine does not fail the test; elsewhere than on
/// Linux, the time of day.
fn processor_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = schedstat.split_whitespace().next().and_then(|number| number.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Opens the config in every way, with and without weights. Returns whether it is valid.
fn try_all(json: &Value) -> bool {
    let begin = processor_time();
    let alone = Folder::with_config(json);
    for folder in [&alone, &Folder::dense(), &Folder::chains()] {
        folder.write("config.json", json.to_string());
        let problems = folder.problems();
        assert!(problems.len() <= 1001, "{} problems", problems.len());
        let inspected = inspect(&folder.dir).err().map(|error| error.to_string());
        let opened = Source::open(&folder.dir).err().map(|error| error.to_string());
        assert_eq!(opened.is_none(), problems.is_empty(), "{opened:?}, {problems:?}");
        for error in problems.iter().chain(&inspected).chain(&opened) {
            assert!(error.contains(&*folder.dir.to_string_lossy()), "{error}");
        }
        if let Ok(config) = ColmConfig::parse(&json.to_string()) {
            for k in config.chains.counts().take(3) {
                let _ = Checkpoint::open(&folder.dir, &config, k).is_ok();
            }
            assert!(config.parameters(config.all_chains()) > 0);
        }
    }
    let taken = processor_time() - begin;
    assert!(taken < Duration::from_secs(10), "{taken:?} for {json}");
    ColmConfig::parse(&json.to_string()).is_ok()
}

#[test]
fn any_size_in_any_field() {
    let fields = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
    ];
    for field in fields {
        for value in VALUES {
            let is_valid = try_all(&with(config_json(), |json| json[field] = json!(value)));
            assert!(!is_valid || (1..=i32::MAX as u64).contains(&value), "{field} = {value}");
        }
    }
}

#[test]
fn all_sizes_at_their_largest() {
    for json in [config_json(), air_json()] {
        let most = (i32::MAX as u64) / 1024 * 1024;
        let json = with(json, |json| {
            json["chains"] = json!(vec![1; 256]);
            for field in ["vocab_size", "hidden_size", "intermediate_size"] {
                json[field] = json!(most);
            }
            json["num_hidden_layers"] = json!(10_000);
            json["num_attention_heads"] = json!(1 << 20);
            json["num_key_value_heads"] = json!(1 << 12);
            json["head_dim"] = json!(1 << 10);
            json["max_position_embeddings"] = json!(100_000_000);
        });
        assert!(try_all(&json));
    }
}

#[test]
fn absurd_chains() {
    for chains in [
        json!(vec![1; 1_000_000]),
        json!([1, u64::MAX]),
        json!([1, i32::MAX]),
        json!([0]),
        json!(vec![i32::MAX; 256]),
    ] {
        assert!(!try_all(&with(config_json(), |json| json["chains"] = chains)));
    }
}
