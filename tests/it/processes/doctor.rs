//! `colm doctor`.

use super::{colm, MODEL, PLAIN};

#[test]
fn the_machine_and_the_model_are_checked() {
    let healthy = colm(PLAIN, &["doctor", "-m", MODEL, "--kv-cache-mb", "16"]);
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    for line in ["instruction set", "memory", "tiny-colm-air, 4 chains", "KV cache"] {
        assert!(healthy.stdout.contains(line), "{line}: {healthy:?}");
    }
    let too_large = colm(PLAIN, &["doctor", "-m", MODEL, "--kv-cache-mb", "100000000"]);
    too_large.refused_with("1 problem");
    assert!(too_large.stdout.contains("WRONG  fits"), "{too_large:?}");
    let missing = colm(PLAIN, &["doctor", "-m", "/no/such/model"]);
    missing.refused_with("1 problem");
    assert!(missing.stdout.contains("does not exist"), "{missing:?}");
    assert_eq!(colm(PLAIN, &["doctor"]).code, Some(0));
}
