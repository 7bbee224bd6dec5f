//! An engine that runs an echo model.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use candle_core::{Device, Tensor};
use colm_testing::engine::load_with_host;
use mistralrs_core::{
    MemoryGpuConfig, MistralRs, MistralRsBuilder, ModelDType, NormalLoaderBuilder, NormalRequest,
    NormalSpecificConfig, PagedAttentionConfig, PagedCacheType, Pipeline, Request as EngineRequest,
    RequestMessage, Response, SamplingParams, SchedulerConfig,
};
use serde_json::json;
use tokio::sync::mpsc::{channel, Receiver, Sender};

use super::loader::{EchoConfig, EchoLoader};
use super::model::Seen;

/// The number of tokens in prompts and ordinary answers: `t0;` to `t96;`.
pub const VOCAB_SIZE: usize = 97;

/// A further token. Its text is one byte, the first of a UTF-8 character of two bytes.
pub const HALF_CHARACTER: u32 = VOCAB_SIZE as u32;

/// Positions per block.
pub const BLOCK_SIZE: usize = 8;

/// Paging of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Blocks of the pool. The engine reserves one of them.
    pub blocks: usize,
    /// Whether sequences of unequal length run in one batch.
    pub ragged_batches: bool,
    /// The most prompt tokens of a step. None: prompts are computed as a whole, in steps of their own.
    pub prefill_chunk: Option<usize>,
    /// The model's context length.
    pub context: usize,
}

impl Pool {
    pub fn of(blocks: usize) -> Self {
        Self { blocks, ragged_batches: true, prefill_chunk: None, context: 2048 }
    }

    /// The largest number of tokens of a sequence: the context length or the size of the pool.
    pub fn longest(&self) -> usize {
        self.context.min((self.blocks - 1) * BLOCK_SIZE)
    }

    /// The key size at which a pool of 1 MiB has `self.blocks` blocks.
    fn head_dim(&self) -> usize {
        let numbers = 1024 * 1024 / size_of::<f32>() / (self.blocks * BLOCK_SIZE);
        // The cache layout splits a key into parts of 16 bytes.
        numbers / 2 / 4 * 4
    }
}

/// A request to one of the model's variants.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub variant: usize,
    /// `None`: as many as fit.
    pub new_tokens: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub finish_reason: String,
}

/// What an engine starts with.
type Loaded =
    (Arc<tokio::sync::Mutex<dyn Pipeline + Send + Sync>>, SchedulerConfig, Arc<Mutex<Seen>>);

async fn load(pool: &Pool) -> Loaded {
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
    let pipeline = tokio::task::block_in_place(|| {
        load_with_host(&*loader, ModelDType::F32, None, Some(paging.unwrap()))
    });
    let pipeline = pipeline.unwrap();
    let mut config = pipeline.lock().await.get_metadata().cache_config.clone().unwrap();
    assert_eq!(config.num_gpu_blocks, pool.blocks);
    config.ragged_batches = pool.ragged_batches;
    config.prefill_chunk = pool.prefill_chunk;
    let scheduler = SchedulerConfig::PagedAttentionMeta { max_num_seqs: 32, config };
    (pipeline, scheduler, seen)
}

#[derive(Clone)]
pub struct EchoEngine {
    host: Arc<MistralRs>,
    seen: Arc<Mutex<Seen>>,
}

impl EchoEngine {
    pub async fn start(pool: &Pool) -> Self {
        let (pipeline, scheduler, seen) = load(pool).await;
        let host = MistralRsBuilder::new(pipeline, scheduler, false, None).build().await;
        Self { host, seen }
    }

    /// Starts while another thread uses the pipeline most of the time.
    pub async fn start_while_in_use(pool: &Pool) -> Self {
        let (pipeline, scheduler, seen) = load(pool).await;
        let starting = Arc::new(());
        let (in_use, is_starting) = (pipeline.clone(), Arc::downgrade(&starting));
        let user = thread::spawn(move || {
            while is_starting.strong_count() > 0 {
                let lock = in_use.blocking_lock();
                thread::sleep(Duration::from_millis(5));
                drop(lock);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let host = MistralRsBuilder::new(pipeline, scheduler, false, None).build().await;
        drop(starting);
        user.join().unwrap();
        Self { host, seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Makes the `step`-th forward pass from now fail, with an error or a panic.
    pub fn fail_at(&self, step: usize, panics: bool) {
        let mut seen = self.seen.lock().unwrap();
        (seen.fails, seen.panics) = (Some(seen.steps + step), panics);
    }

    /// The answer, or the engine's error message.
    pub async fn ask(&self, request: &Request) -> Result<Answer, String> {
        let (response, mut responses) = channel(1);
        self.send(request, false, response).await;
        match next(&mut responses).await? {
            Response::CompletionDone(mut done) => {
                let choice = done.choices.remove(0);
                Ok(Answer { tokens: tokens_of(&choice.text), finish_reason: choice.finish_reason })
            }
            Response::ValidationError(error) => Err(error.to_string()),
            Response::CompletionModelError(error, _) => Err(error),
            _ => Err("a response of another kind".into()),
        }
    }

    /// The answer as a stream.
    pub async fn stream(&self, request: &Request) -> Result<Answer, String> {
        let (response, mut responses) = channel(1);
        self.send(request, true, response).await;
        let mut text = String::new();
        loop {
            let Response::CompletionChunk(mut chunk) = next(&mut responses).await? else {
                return Err("a response of another kind".into());
            };
            let choice = chunk.choices.remove(0);
            text += &choice.text;
            if let Some(finish_reason) = choice.finish_reason {
                return Ok(Answer { tokens: tokens_of(&text), finish_reason });
            }
        }
    }

    /// Sends a request and disconnects as soon as it runs.
    pub async fn disconnect(&self, request: &Request) {
        let steps = self.seen().steps;
        let (response, responses) = channel(1);
        self.send(request, false, response).await;
        while self.seen().steps == steps {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(responses);
    }

    /// Sends a request whose client disconnects during the `step`-th forward pass from now, which fails.
    pub async fn disconnect_in_failing_step(&self, request: &Request, step: usize) {
        let (response, responses) = channel(1);
        self.seen.lock().unwrap().disconnecting = Arc::new(Mutex::new(Some(responses)));
        self.fail_at(step, false);
        self.send(request, false, response).await;
    }

    async fn send(&self, request: &Request, is_streaming: bool, response: Sender<Response>) {
        let sampling =
            SamplingParams { max_len: request.new_tokens, ..SamplingParams::deterministic() };
        let engine_request = NormalRequest {
            model_id: Some(format!("echo@{}", request.variant)),
            is_streaming,
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
    }
}

/// The next response. An engine that stops answering fails the test instead of blocking it.
async fn next(responses: &mut Receiver<Response>) -> Result<Response, String> {
    let response = tokio::time::timeout(Duration::from_secs(60), responses.recv()).await;
    let response = response.map_err(|_| "no answer within a minute".to_string())?;
    response.ok_or_else(|| "no response".into())
}

fn tokens_of(text: &str) -> Vec<u32> {
    let tokens = text.split_terminator(';');
    tokens.map(|token| token.strip_prefix('t').unwrap().parse().unwrap()).collect()
}

fn write_model(folder: &Path, pool: &Pool) {
    let mut vocab: BTreeMap<String, u32> =
        (0..HALF_CHARACTER).map(|id| (format!("t{id};"), id)).collect();
    // The byte-level decoder writes this character as the byte 0xc3.
    vocab.insert("\u{c3}".into(), HALF_CHARACTER);
    let config = EchoConfig {
        architectures: vec!["EchoForCausalLM".into()],
        vocab_size: vocab.len(),
        max_position_embeddings: pool.context,
        head_dim: pool.head_dim(),
    };
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
    // The engine requires a weight file. The model has no weights.
    let unused = Tensor::new(&[0f32], &Device::Cpu).unwrap();
    let weights = HashMap::from([("unused", unused)]);
    candle_core::safetensors::save(&weights, folder.join("model.safetensors")).unwrap();
}
