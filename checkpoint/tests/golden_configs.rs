//! The golden checkpoints of tests/golden open at every chain count, with the expected files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use colm_checkpoint::{files_for, Checkpoint, ColmConfig, Layout};

fn cases() -> BTreeMap<String, PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    fs::read_dir(golden)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .collect()
}

fn config(case: &Path) -> ColmConfig {
    ColmConfig::read(&case.join("config.json")).unwrap()
}

#[test]
fn every_case_opens_at_every_chain_count() {
    let cases = cases();
    assert_eq!(cases.len(), 25, "{:?}", cases.keys());
    for (name, case) in &cases {
        let config = config(case);
        let layout = if name.ends_with("-dense") { Layout::Dense } else { Layout::Chains };
        for k in config.chains.counts() {
            let checkpoint = Checkpoint::open(case, &config, k)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(checkpoint.layout(), layout, "{name}");
            let files = if layout == Layout::Chains { k.get() } else { 1 };
            assert_eq!(checkpoint.files().count(), files, "{name} at {k}");
            assert_eq!(files_for(case, &config, k).unwrap().len(), files, "{name} at {k}");
            checkpoint.check_zero_submatrices().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn a_dense_case_has_the_values_of_its_chain_case() {
    let cases = cases();
    for name in [
        "colm-2-1-1-gqa",
        "air-2-1-1-gqa",
        "colm-widths",
        "colm-unequal-groups",
        "air-widths",
        "colm-1-1-qk-norm",
        "air-2-1-1-qk-norm",
    ] {
        let (chains, dense) = (&cases[name], &cases[&format!("{name}-dense")]);
        let config = config(chains);
        let n = config.all_chains();
        let chains = Checkpoint::open(chains, &config, n).unwrap();
        let dense = Checkpoint::open(dense, &config, n).unwrap();
        for tensor in config.tensors(n) {
            let (one, other) = (chains.tensor(&tensor), dense.tensor(&tensor));
            assert_eq!(one.bytes(), other.bytes(), "{name}: {}", tensor.name());
        }
    }
}
