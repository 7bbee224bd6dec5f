//! The prefix cache's second tier: blocks in a store outside the process.

mod damage;
mod identity;
mod replicas;
mod roles;

use std::path::Path;

use colm::{Engine, EngineBuilder, KvStoreOptions, Request};
use colm_testing::engine::{chain_count, engine, options, start_error};
use colm_testing::random_model::{self, VOCAB};
use mistralrs_core::ext::{compute_block_hashes, ExtraHashKey};
use serde_json::Value;

const BLOCK_SIZE: usize = 16;

/// The store in `folder`.
fn store(folder: &Path) -> KvStoreOptions {
    // The models are so small that computing may be faster.
    KvStoreOptions::new(&format!("file://{}", folder.display())).unwrap().always_read(true)
}

/// An engine with the model in `model` and the store in `folder`.
fn with_store(model: &Path, folder: &Path) -> EngineBuilder {
    options(model).block_size(BLOCK_SIZE).prefill_chunk(64).kv_store(store(folder))
}

/// `length` tokens that depend on `seed`.
fn prompt(seed: usize, length: usize) -> Vec<u32> {
    (0..length).map(|at| (1 + (at * at + 31 * at + 97 * seed) % (VOCAB - 1)) as u32).collect()
}

/// The answer of an engine that computes everything itself.
async fn answer_alone(model: &Path, request: Request) -> String {
    let engine = engine(&options(model).prefix_cache(false).prefill_chunk(1024)).await;
    engine.answer(request).await.unwrap().text
}

/// The files of blocks in `folder`.
fn block_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(block_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "kv") {
            files.push(path);
        }
    }
    files.sort();
    files
}

async fn a_restarted_engine_reads_what_it_had(config: Value) {
    let model = random_model::folder(&config);
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let request = || Request::tokens(prompt(1, 100)).chains(chain_count(2)).max_tokens(8);
    let expected = answer_alone(&model, request()).await;
    for (run, cached) in [(0, 0), (1, 96)] {
        let engine = engine(&with_store(&model, folder.path())).await;
        let answer = engine.answer(request()).await.unwrap();
        assert_eq!(answer.text, expected, "run {run}");
        assert_eq!(answer.usage.cached_tokens, cached, "run {run}");
        engine.flush_kv_store().await;
        // The prompt, and no block of the answer is full.
        assert_eq!(block_files(folder.path()).len(), 6, "run {run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_air_reads_what_it_had() {
    a_restarted_engine_reads_what_it_had(random_model::air()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_colm_reads_what_it_had() {
    a_restarted_engine_reads_what_it_had(random_model::colm()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_answers_are_stored() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let first = engine(&with_store(&model, folder.path()).ignore_eos(true)).await;
    let question = prompt(2, 30);
    let request = Request::tokens(question.clone()).max_tokens(40);
    let answer = first.answer(request).await.unwrap();
    first.flush_kv_store().await;
    let answered = answer.tokens.iter().map(|token| token.id);
    let conversation: Vec<u32> = question.into_iter().chain(answered).chain([5, 6, 7]).collect();
    let second = engine(&with_store(&model, folder.path())).await;
    let request = || Request::tokens(conversation.clone()).max_tokens(8);
    let continued = second.answer(request()).await.unwrap();
    // 69 of the 70 tokens have keys and values: the last one is not computed.
    assert_eq!(continued.usage.cached_tokens, 64);
    assert_eq!(continued.text, answer_alone(&model, request()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pool_has_is_not_read() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&with_store(&model, folder.path())).await;
    let request = || Request::tokens(prompt(3, 100)).max_tokens(4);
    engine.answer(request()).await.unwrap();
    engine.flush_kv_store().await;
    // Without files, only the pool can have the blocks.
    block_files(folder.path()).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let again = engine.answer(request()).await.unwrap();
    assert_eq!(again.usage.cached_tokens, 96);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_store_is_neither_written_nor_read() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let request = || Request::tokens(prompt(5, 100)).max_tokens(4);
    for (paused, cached, files) in [(true, 0, 0), (false, 0, 6), (true, 0, 6), (false, 96, 6)] {
        let engine = engine(&with_store(&model, folder.path())).await;
        engine.pause_kv_store(paused);
        let answer = engine.answer(request()).await.unwrap();
        engine.flush_kv_store().await;
        let found = (answer.usage.cached_tokens, block_files(folder.path()).len());
        assert_eq!(found, (cached, files), "{paused}");
    }
}

/// The key of a block is BLAKE3 of the key before it, the number of its tokens, the tokens, and the salt.
#[test]
fn keys_are_blake3_of_all_tokens() {
    let tokens = prompt(4, 40);
    let salt = "the identity of a model";
    let salts = [ExtraHashKey::CacheSalt(salt.into())];
    let hashes = compute_block_hashes(&tokens, BLOCK_SIZE, &[], &salts);
    let mut before = [0; 32];
    let mut expected = Vec::new();
    for block in tokens.chunks_exact(BLOCK_SIZE) {
        let mut bytes = before.to_vec();
        bytes.extend((BLOCK_SIZE as u64).to_le_bytes());
        bytes.extend(block.iter().flat_map(|token| token.to_le_bytes()));
        bytes.push(2);
        bytes.extend((salt.len() as u64).to_le_bytes());
        bytes.extend(salt.as_bytes());
        before = *blake3::hash(&bytes).as_bytes();
        expected.push(before);
    }
    let hashes: Vec<[u8; 32]> = hashes.iter().map(|hash| *hash.bytes()).collect();
    assert_eq!(hashes, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_work_are_refused() {
    let model = random_model::folder(&random_model::air());
    let model = model.path().join("model");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for url in ["ftp://:secret@host", "file://relative/path"] {
        let error = KvStoreOptions::new(url).unwrap_err().to_string();
        assert!(error.contains("`kv_store`") && error.contains(&url[..6]), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let cases = [
        (with_store(&model, &file), "file"),
        (options(&model).kv_store(store(folder.path()).buffer_mib(0)), "`kv_store_buffer_mib` 0"),
        (with_store(&model, folder.path()).prefix_cache(false), "`prefix_cache`"),
        (
            options(&model).kv_store(KvStoreOptions::new("memory:").unwrap().max_bytes(1 << 30)),
            "`kv_store_max_bytes` 1073741824 bytes",
        ),
    ];
    for (options, named) in cases {
        let error = start_error(&options).await;
        assert!(error.contains("kv_store") && error.contains(named), "{named}: {error}");
    }
}

/// How many prompt tokens `engine` has computed.
fn computed(engine: &Engine) -> usize {
    engine.counts().prompt
}
