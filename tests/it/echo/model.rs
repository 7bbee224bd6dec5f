//! A model without weights. It writes each input token into the KV cache and computes its answer from the slots
//! it reads back.

use std::hash::Hasher;
use std::sync::{Arc, Mutex};

use candle_core::{bail, Device, Result, Tensor};
use fnv::FnvHasher;
use mistralrs_core::ext::{
    AnyMoeBaseModelMixin, Cache, DeviceMapper, EitherCache, Extension, FlashParams, IsqModel,
    ModelConfigMetadata, NonGranularState, NormalModel, PagedAttentionInputMetadata,
    Sequence as EngineSequence,
};
use mistralrs_core::Response;
use mistralrs_quant::QuantMethod;
use tokio::sync::mpsc::Receiver;

use super::engine::{HALF_CHARACTER, VOCAB_SIZE};
use super::kv_slots::{Blocks, Kv, Paging};

/// The KV of `token` at `position`. It differs between variants, as in a model whose KV depends on the request.
fn kv(token: u32, position: usize, variant: usize) -> Kv {
    (token as f32, (variant * 10_000 + position) as f32)
}

/// The token after a sequence with these KV. It depends on each of them.
fn next_token(sequence: impl IntoIterator<Item = Kv>, vocab_size: usize) -> u32 {
    let mut hasher = FnvHasher::default();
    for (key, value) in sequence {
        hasher.write_u32(key.to_bits());
        hasher.write_u32(value.to_bits());
    }
    // The low bits of an FNV hash depend only on the low bits of the input.
    ((hasher.finish() >> 32) % vocab_size as u64) as u32
}

/// The answer to `prompt` by the definition of the model, computed without an engine.
pub fn answer(prompt: &[u32], variant: usize, new_tokens: usize, vocab_size: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..new_tokens {
        let sequence = tokens.iter().enumerate();
        let sequence = sequence.map(|(position, &token)| kv(token, position, variant));
        tokens.push(next_token(sequence, vocab_size));
    }
    tokens.split_off(prompt.len())
}

/// A variant whose requests make the model panic when the engine admits them.
pub const PANICS_AT_ADMISSION: usize = 0;

/// A variant whose requests the model refuses.
pub const REFUSED: usize = 8;

/// A variant that answers with [`HALF_CHARACTER`] only.
pub const HALF_CHARACTERS: usize = 9;

/// The variant in a model id such as `echo@2`; 1 if there is none.
fn variant_of(model_id: Option<&str>) -> usize {
    let variant = model_id.and_then(|id| id.rsplit_once('@')?.1.parse().ok());
    variant.unwrap_or(1)
}

/// What the model has seen so far, and the failures to inject.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Forward passes.
    pub steps: usize,
    /// The forward pass to fail, counted from 1. It writes nothing.
    pub fails: Option<usize>,
    /// Whether it panics instead of returning an error.
    pub panics: bool,
    /// The receiver of a client that disconnects during the failing pass.
    pub disconnecting: Arc<Mutex<Option<Receiver<Response>>>>,
    /// How often the engine asked for the layers to quantize.
    pub layers_requested: usize,
    /// Number of sequences in the largest forward pass.
    pub largest_batch: usize,
    /// Rows computed: tokens without those from the prefix cache.
    pub rows: usize,
    /// Rows for which the cache did not hold the tokens up to their own.
    pub wrong_rows: usize,
    /// Description of the first wrong row.
    pub first_wrong: Option<String>,
    /// Tokens of prompts that came from the prefix cache.
    pub reused: usize,
    /// How often a sequence was preempted after it had new tokens, and prefilled again.
    pub resumed: usize,
    /// Per forward pass, the prompt tokens and the decoding sequences.
    pub passes: Vec<Pass>,
}

/// What a forward pass computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Prompt tokens.
    pub prompt: usize,
    /// Sequences that decode.
    pub decoding: usize,
}

/// A sequence of the next forward pass, as `begin_step` announced it.
struct Announced {
    tokens: Vec<u32>,
    variant: usize,
}

pub struct EchoModel {
    vocab_size: usize,
    metadata: ModelConfigMetadata,
    mapper: Box<dyn DeviceMapper + Send + Sync>,
    unused_cache: EitherCache,
    announced: Mutex<Vec<Announced>>,
    seen: Arc<Mutex<Seen>>,
}

impl EchoModel {
    pub fn new(
        vocab_size: usize,
        metadata: ModelConfigMetadata,
        mapper: Box<dyn DeviceMapper + Send + Sync>,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        let unused_cache = EitherCache::Full(Cache::new(metadata.num_layers, false));
        Self { vocab_size, metadata, mapper, unused_cache, announced: Mutex::default(), seen }
    }

    /// Compares the slots of positions 0 to `position` with the sequence.
    fn check(&self, sequence: &Announced, position: usize, found: &[Kv]) {
        let mut seen = self.seen.lock().unwrap();
        seen.rows += 1;
        let expected = |at| kv(sequence.tokens[at], at, sequence.variant);
        if let Some(at) = (0..=position).find(|&at| found[at] != expected(at)) {
            seen.wrong_rows += 1;
            seen.first_wrong.get_or_insert_with(|| {
                format!(
                    "row {position} of a sequence of {}: {:?} at position {at}, expected {:?}",
                    sequence.tokens.len(),
                    found[at],
                    expected(at)
                )
            });
        }
    }
}

impl NormalModel for EchoModel {
    fn begin_step(&self, sequences: &[&mut EngineSequence], _is_prompt: bool) {
        let mut seen = self.seen.lock().unwrap();
        seen.steps += 1;
        seen.largest_batch = seen.largest_batch.max(sequences.len());
        let mut pass = Pass::default();
        let announce = |sequence: &&mut EngineSequence| {
            let tokens = sequence.step_tokens();
            if sequence.is_prompt() {
                pass.prompt += tokens.len();
            } else {
                pass.decoding += 1;
            }
            if sequence.is_prompt() && tokens.start == sequence.prefix_cache_len() {
                if sequence.get_toks().len() > sequence.prompt_tokens() {
                    seen.resumed += 1;
                } else {
                    seen.reused += sequence.prefix_cache_len();
                }
            }
            Announced {
                tokens: sequence.get_toks().to_vec(),
                variant: variant_of(sequence.requested_model_id()),
            }
        };
        *self.announced.lock().unwrap() = sequences.iter().map(announce).collect();
        seen.passes.push(pass);
    }

    fn cache_salt(
        &self,
        requested_model_id: Option<&str>,
        _extension: Option<&Extension>,
    ) -> Result<Option<String>> {
        let variant = variant_of(requested_model_id);
        assert_ne!(variant, PANICS_AT_ADMISSION, "a panic at admission");
        if variant == REFUSED {
            bail!("the model has no such variant");
        }
        Ok(Some(format!("variant={variant}")))
    }

    fn forward(
        &self,
        input_ids: &Tensor,
        seqlen_offsets: &[usize],
        _context_lens: Vec<(usize, usize)>,
        _position_ids: Vec<usize>,
        metadata: Option<(Vec<(Tensor, Tensor)>, &PagedAttentionInputMetadata)>,
        _flash_params: &FlashParams,
    ) -> Result<Tensor> {
        let Some((cache, metadata)) = metadata else {
            bail!("the KV cache is not paged");
        };
        let seen = self.seen.lock().unwrap().clone();
        if seen.fails == Some(seen.steps) {
            drop(seen.disconnecting.lock().unwrap().take());
            assert!(!seen.panics, "this step was to fail");
            bail!("this step was to fail");
        }
        let blocks = Blocks { keys: &cache[0].0, values: &cache[0].1 };
        let paging = Paging::of(metadata)?;
        let announced = std::mem::take(&mut *self.announced.lock().unwrap());
        let ids = input_ids.to_vec2::<u32>()?;
        if announced.len() != ids.len() {
            bail!("a step of {} sequences was announced, {} came", announced.len(), ids.len());
        }
        for (index, ids) in ids.iter().enumerate() {
            for (row, &slot) in
                paging.slots[index].iter().enumerate().filter(|(_, &slot)| slot >= 0)
            {
                let kv = kv(ids[row], seqlen_offsets[index] + row, announced[index].variant);
                blocks.write(slot as usize, kv)?;
            }
        }
        let written = blocks.read()?;
        let mut logits = Vec::with_capacity(ids.len());
        for (index, sequence) in announced.iter().enumerate() {
            let table = paging.tables[index].iter();
            let found: Vec<Kv> = table.flat_map(|&block| written[block as usize].clone()).collect();
            let first = seqlen_offsets[index];
            let end = first + paging.slots[index].iter().filter(|&&slot| slot >= 0).count();
            (first..end).for_each(|position| self.check(sequence, position, &found));
            let mut row = vec![0f32; self.vocab_size];
            let next = match sequence.variant {
                HALF_CHARACTERS => HALF_CHARACTER,
                _ => next_token(found[..end].iter().copied(), VOCAB_SIZE),
            };
            row[next as usize] = 1.0;
            logits.push(row);
        }
        Tensor::new(logits, &Device::Cpu)?.unsqueeze(1)
    }

    fn xlora_forward(
        &self,
        _input_ids: &Tensor,
        _input_ids_full: &Tensor,
        _seqlen_offsets: &[usize],
        _seqlen_offsets_full: &[usize],
        _no_kv_cache: bool,
        _non_granular_state: &Option<NonGranularState>,
        _context_lens: Vec<(usize, usize)>,
        _position_ids: Vec<usize>,
        _flash_params: &FlashParams,
        _flash_params_full: &FlashParams,
    ) -> Result<Tensor> {
        bail!("no X-LoRA")
    }

    fn is_xlora(&self) -> bool {
        false
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn cache(&self) -> &EitherCache {
        &self.unused_cache
    }

    fn cache_mut(&mut self) -> &mut EitherCache {
        &mut self.unused_cache
    }

    fn max_seq_len(&self) -> usize {
        self.metadata.max_seq_len
    }

    fn config(&self) -> &ModelConfigMetadata {
        &self.metadata
    }
}

impl IsqModel for EchoModel {
    fn get_layers(
        &mut self,
    ) -> (Vec<(&mut Arc<dyn QuantMethod>, Option<usize>)>, &dyn DeviceMapper) {
        self.seen.lock().unwrap().layers_requested += 1;
        (Vec::new(), &*self.mapper)
    }

    fn residual_tensors(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

impl AnyMoeBaseModelMixin for EchoModel {}
