//! The engine against an independent float64 implementation in NumPy (`tests/golden/make_golden.py`), for every case
//! and chain count, in both layouts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use colm_testing::comparison::largest_magnitude;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::{golden, model_folder};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    /// The loss by chain count, in nats per predicted token.
    nll: BTreeMap<usize, f64>,
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.join("expected.json").is_file()).collect();
    cases.sort();
    cases
}

/// The mean negative log-likelihood of all tokens after the first, in float64.
pub fn nll(logits: &Tensor, tokens: &[u32]) -> f64 {
    let rows = logits.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    let predicted = tokens.iter().skip(1).zip(&rows);
    let total: f64 = predicted
        .map(|(&token, row)| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
            largest + sum.ln() - row[token as usize]
        })
        .sum();
    total / (tokens.len() - 1) as f64
}

async fn check(case: &Path) {
    let name = case.file_name().unwrap().to_string_lossy();
    let folder = model_folder(case);
    let expected: Expected =
        serde_json::from_str(&fs::read_to_string(case.join("expected.json")).unwrap()).unwrap();
    let logits =
        candle_core::safetensors::load(case.join("expected.safetensors"), &Device::Cpu).unwrap();
    let options = options(folder.path()).prefix_cache(false);
    let engine = engine(&options).await;
    assert_eq!(expected.nll.len(), engine.loaded_chains().get(), "{name}: number of chain counts");
    for (k, expected_nll) in &expected.nll {
        let found = engine.logits(expected.tokens.clone(), chain_count(*k)).await.unwrap();
        let difference = (&found - &logits[&format!("logits.{k}")]).unwrap();
        let difference =
            largest_magnitude(difference.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert!(difference <= 1e-4, "{name} at {k} chains: logits differ by {difference}");
        let off = (nll(&found, &expected.tokens) - expected_nll).abs();
        assert!(off <= 1e-5, "{name} at {k} chains: nll is off by {off}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_at_every_chain_count() {
    let cases = cases();
    assert!(cases.len() >= 10, "golden cases: {cases:?}");
    for case in cases {
        check(&case).await;
    }
}
