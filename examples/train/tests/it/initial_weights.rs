//! Random initialization.

use colm_checkpoint::Architecture;
use colm_train::weights::Weights;

use crate::models::{bits, config};

/// Equal seeds give equal weights in every version, so that a training run can be repeated.
#[test]
fn the_weights_of_a_seed_do_not_change() {
    let random = |architecture| Weights::random(&config(architecture, 40), 3).unwrap();
    let (colm, air) = (random(Architecture::Colm), random(Architecture::ColmAir));
    let head = &bits(&colm.blocks["lm_head.chains.2.weight"])[..4];
    let fingerprints = [colm, air].map(|weights| weights.fingerprint().unwrap());
    assert_eq!(head, [1_032_714_512, 3_180_381_880, 3_176_186_996, 1_013_819_424]);
    assert_eq!(fingerprints, [2_326_705_936_849_787_535, 4_162_543_851_793_223_175]);
}
