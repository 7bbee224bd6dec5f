//! `ChainModel` has the logits of the float64 implementation in NumPy (`tests/golden/make_golden.py`), for every case
//! and number of chains, and so for models in both layouts and in the paper's own conventions.

use std::fs;

use candle_core::{Device, Tensor};
use colm_testing::folders::{golden, model_folder};
use colm_train::chain_model::ChainModel;
use colm_train::weights::Weights;
use serde_json::Value;

use crate::models::largest_difference;

#[test]
fn every_case_has_the_expected_logits() {
    let cases = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<_> = cases.filter(|path| path.join("expected.json").is_file()).collect();
    assert!(cases.len() >= 20, "{cases:?}");
    for case in cases {
        let name = case.display();
        let expected: Value =
            serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
        let expected =
            candle_core::safetensors::load(case.join("expected.safetensors"), &Device::Cpu)
                .unwrap();
        let folder = model_folder(&case);
        let (Weights { config, blocks }, _) = Weights::read(folder.path()).unwrap();
        let model = ChainModel::new(&config, &blocks).unwrap();
        let tokens = Tensor::new(vec![tokens], &Device::Cpu).unwrap();
        let logits = model.logits(&model.forward(&tokens).unwrap()).unwrap();
        assert_eq!(logits.len(), expected.len(), "{name}");
        for (at, found) in logits.iter().enumerate() {
            let k = at + 1;
            let off = largest_difference(found, &expected[&format!("logits.{k}")]);
            assert!(off <= 1e-4, "{name} at {k} chains: logits differ by {off}");
        }
    }
}
