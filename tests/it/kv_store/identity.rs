//! Which engines share blocks, and which do not.

use colm::{MatmulPrecision, Quantization};
use colm_testing::random_model::{self, with};

use super::*;

/// How many prompt tokens `reader` finds in a store that `writer` has filled, each at its own chain count.
async fn shared(writer: (EngineBuilder, usize), reader: (EngineBuilder, usize)) -> usize {
    let request = |k| Request::tokens(prompt(1, 100)).chains(chain_count(k)).max_tokens(2);
    let first = engine(&writer.0).await;
    first.answer(request(writer.1)).await.unwrap();
    first.flush_kv_store().await;
    let second = engine(&reader.0).await;
    let found = second.answer(request(reader.1)).await.unwrap().usage.cached_tokens;
    second.flush_kv_store().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_with_the_same_keys_and_values_share_blocks() {
    let (air, colm) =
        (random_model::folder(&random_model::air()), random_model::folder(&random_model::colm()));
    let (air, colm) = (air.path().join("model"), colm.path().join("model"));
    for (name, model, writer, reader, cached) in [
        ("Air at any k", &air, (None, 1), (None, 4), 96),
        ("the first chain of an Air alone", &air, (Some(1), 1), (None, 4), 96),
        ("CoLM at the same k", &colm, (None, 2), (None, 2), 96),
        ("CoLM with fewer chains loaded", &colm, (Some(2), 2), (None, 2), 96),
        ("CoLM at another k", &colm, (None, 2), (None, 1), 0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |(chains, k)| (with_store(model, folder.path()).max_chains(chains), k);
        assert_eq!(shared(at(writer), at(reader)).await, cached, "{name}");
    }
}

/// Such as several models that were grown from one Llama, which is their first chain.
#[tokio::test(flavor = "multi_thread")]
async fn models_with_the_same_first_chain_share_its_blocks() {
    for (config, k, cached) in
        [(random_model::air(), 4, 96), (random_model::colm(), 1, 96), (random_model::colm(), 2, 0)]
    {
        let [model, other] = [0, 1].map(|seed| {
            let folder = tempfile::tempdir().unwrap();
            let model = folder.path().join("model");
            random_model::write(&model, &config, |tensor| seed * tensor.chain.min(1) as u64);
            folder
        });
        let folder = tempfile::tempdir().unwrap();
        let at = |model: &Path| (with_store(&model.join("model"), folder.path()), k);
        let found = shared(at(model.path()), at(other.path())).await;
        assert_eq!(found, cached, "{} at k = {k}", config["model_type"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_with_other_keys_and_values_do_not() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let other = random_model::folder(&with(random_model::air(), |json| {
        json["rms_norm_eps"] = 2e-5.into();
    }));
    let other = other.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let base = || with_store(&model, folder.path());
    assert_eq!(shared((base(), 4), (base(), 4)).await, 96);
    let cases = [
        ("another model", with_store(&other, folder.path())),
        ("quantized weights", base().quantization("q8_0".parse::<Quantization>().unwrap())),
        ("other weights", base().dtype("bf16".parse().unwrap())),
        ("rounded activations", base().matmul_precision(MatmulPrecision::Bf16)),
        ("another cache", base().kv_cache_dtype("bf16".parse().unwrap())),
        ("other blocks", base().block_size(32)),
    ];
    for (name, reader) in cases {
        assert_eq!(shared((base(), 4), (reader.clone(), 4)).await, 0, "{name}");
        assert_eq!(shared((base(), 4), (reader, 4)).await, 96, "{name}, the second time");
    }
}
