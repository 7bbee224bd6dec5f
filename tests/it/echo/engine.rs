//! An engine around an echo model.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_core::{Device, Tensor};
use mistralrs_core::{
    MemoryGpuConfig, MistralRs, MistralRsBuilder, NormalLoaderBuilder, NormalRequest,
    NormalSpecificConfig, PagedAttentionConfig, PagedCacheType, Request as EngineRequest,
    RequestMessage, Response, SamplingParams, SchedulerConfig,
};
use serde_json::json;
use tokio::sync::mpsc::channel;

use super::loader::{EchoConfig, EchoLoader};
use super::model::Seen;
use crate::common::load_with_host;

/// Tokens `t0;` to `t96;`.
pub const VOCAB_SIZE: usize = 97;

/// Positions per block.
const BLOCK_SIZE: usize = 8;

/// How an engine pages.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Blocks of the pool; one of them the engine keeps for itself.
    pub blocks: usize,
    /// Whether sequences of unequal length run in one batch.
    pub ragged_batches: bool,
    /// The model's context.
    pub context: usize,
}

impl Pool {
    pub fn of(blocks: usize) -> Self {
        Self { blocks, ragged_batches: true, context: 2048 }
    }

    /// The most tokens a sequence may have: the context, or what the pool holds.
    pub fn longest(&self) -> usize {
        self.context.min((self.blocks - 1) * BLOCK_SIZE)
    }

    /// So many numbers per key that 1 MiB of keys and values is the pool.
    fn head_dim(&self) -> usize {
        let numbers = 1024 * 1024 / size_of::<f32>() / (self.blocks * BLOCK_SIZE);
        // The engine cuts a key into pieces of 16 bytes.
        numbers / 2 / 4 * 4
    }
}

/// A request, and which of the model's variants is to answer it.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub variant: usize,
    /// No limit of its own if None.
    pub new_tokens: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub finish_reason: String,
}

#[derive(Clone)]
pub struct EchoEngine {
    host: Arc<MistralRs>,
    seen: Arc<Mutex<Seen>>,
}

impl EchoEngine {
    pub async fn start(pool: &Pool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), pool);
        let seen = Arc::<Mutex<Seen>>::default();
        let loader = NormalLoaderBuilder::new(
            NormalSpecificConfig::default(),
            None,
            None,
            Some(folder.path().to_string_lossy().into_owned()),
            false,
            None,
        )
        .build_with(Box::new(EchoLoader { seen: seen.clone() }));
        let paging = PagedAttentionConfig::new(
            Some(BLOCK_SIZE),
            MemoryGpuConfig::MbAmount(1),
            PagedCacheType::Auto,
        );
        let pipeline =
            tokio::task::block_in_place(|| load_with_host(&*loader, Some(paging.unwrap())));
        let pipeline = pipeline.unwrap();
        let mut config = pipeline.lock().await.get_metadata().cache_config.clone().unwrap();
        assert_eq!(config.num_gpu_blocks, pool.blocks);
        config.ragged_batches = pool.ragged_batches;
        let scheduler = SchedulerConfig::PagedAttentionMeta { max_num_seqs: 32, config };
        let host = MistralRsBuilder::new(pipeline, scheduler, false, None).build().await;
        Self { host, seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Lets the `step`-th forward pass from now on fail, with an error or a panic.
    pub fn fail_at(&self, step: usize, panics: bool) {
        let mut seen = self.seen.lock().unwrap();
        (seen.fails, seen.panics) = (Some(seen.steps + step), panics);
    }

    /// The answer, or what the engine says instead.
    pub async fn ask(&self, request: &Request) -> Result<Answer, String> {
        let (response, mut responses) = channel(1);
        let sampling =
            SamplingParams { max_len: request.new_tokens, ..SamplingParams::deterministic() };
        let engine_request = NormalRequest {
            model_id: Some(format!("echo@{}", request.variant)),
            ..NormalRequest::new_simple(
                RequestMessage::CompletionTokens(request.prompt.clone()),
                sampling,
                response,
                self.host.next_request_id(),
                None,
                None,
            )
        };
        let sender = self.host.get_sender(None).unwrap();
        sender.send(EngineRequest::Normal(Box::new(engine_request))).await.unwrap();
        // An engine that answers nobody any more must fail a test, not stop it.
        let response = tokio::time::timeout(Duration::from_secs(60), responses.recv()).await;
        match response.map_err(|_| "no answer within a minute".to_string())? {
            Some(Response::CompletionDone(mut done)) => {
                let choice = done.choices.remove(0);
                Ok(Answer { tokens: tokens_of(&choice.text), finish_reason: choice.finish_reason })
            }
            Some(Response::ValidationError(error)) => Err(error.to_string()),
            Some(Response::CompletionModelError(error, _)) => Err(error),
            Some(_) => Err("a response of another kind".into()),
            None => Err("no response".into()),
        }
    }
}

fn tokens_of(text: &str) -> Vec<u32> {
    let tokens = text.split_terminator(';');
    tokens.map(|token| token.strip_prefix('t').unwrap().parse().unwrap()).collect()
}

fn write_model(folder: &Path, pool: &Pool) {
    let config = EchoConfig {
        architectures: vec!["EchoForCausalLM".into()],
        vocab_size: VOCAB_SIZE,
        max_position_embeddings: pool.context,
        head_dim: pool.head_dim(),
    };
    let vocab: BTreeMap<String, usize> =
        (0..VOCAB_SIZE).map(|id| (format!("t{id};"), id)).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "t0;"},
    });
    let files = [("config.json", json!(config)), ("tokenizer.json", tokenizer)];
    for (name, contents) in files.into_iter().chain([("tokenizer_config.json", json!({}))]) {
        fs::write(folder.join(name), contents.to_string()).unwrap();
    }
    // The engine wants weights, the model does not.
    let unused = Tensor::new(&[0f32], &Device::Cpu).unwrap();
    let weights = HashMap::from([("unused", unused)]);
    candle_core::safetensors::save(&weights, folder.join("model.safetensors")).unwrap();
}
