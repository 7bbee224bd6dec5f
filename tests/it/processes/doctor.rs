//! `colm doctor`.

use super::{colm, MODEL, PLAIN};
use crate::folders::model_folder::Folder;

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
    let narrow = colm(PLAIN, &["doctor", "-m", MODEL, "--isq", "afq8"]);
    narrow.refused_with("1 problem");
    assert!(narrow.stdout.contains("which is not a multiple of 64"), "{narrow:?}");
    let folder = Folder::new().with_bytes("tokenizer.json", b"");
    let broken = colm(PLAIN, &["doctor", "-m", folder.0.path().to_str().unwrap()]);
    broken.refused_with("1 problem");
    assert!(broken.stdout.contains("tokenizer.json"), "{broken:?}");
}
