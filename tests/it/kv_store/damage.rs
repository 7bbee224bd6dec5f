//! Stores with blocks that are damaged.

use super::*;

/// The prompts of these tests.
fn requests() -> Vec<Request> {
    (0..8).map(|seed| Request::tokens(prompt(seed, 100)).max_tokens(4)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_blocks_are_computed_again() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let first = engine(&with_store(&model, folder.path())).await;
    for request in requests() {
        expected.push(first.answer(request).await.unwrap().text);
    }
    first.flush_kv_store().await;
    let files = block_files(folder.path());
    assert_eq!(files.len(), 48);
    for (index, file) in files.iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        let at = index * 7919 % bytes.len();
        bytes[at] ^= 1 << (index % 8);
        std::fs::write(file, bytes).unwrap();
    }
    for (run, cached) in [(0, 0), (1, 96)] {
        let engine = engine(&with_store(&model, folder.path())).await;
        for (request, expected) in requests().into_iter().zip(&expected) {
            let answer = engine.answer(request).await.unwrap();
            assert_eq!(&answer.text, expected, "run {run}");
            assert_eq!(
                answer.usage.cached_tokens, cached,
                "run {run}: damaged blocks are written again"
            );
        }
        engine.flush_kv_store().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_costs_nothing_but_time() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    // Nothing listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = KvStoreOptions::new(&format!("redis://{address}")).unwrap();
    let engine = engine(&options(&model).kv_store(store)).await;
    for request in requests() {
        let expected = answer_alone(&model, request.clone()).await;
        assert_eq!(engine.answer(request).await.unwrap().text, expected);
    }
}
