//! [`Colm`] as the engine's `NormalModel`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{bail, Device, Result, Tensor};
use colm_checkpoint::{ColmConfig, Part, Projection};
use colm_kernels::KvBlocks;
use mistralrs_core::ext::{
    AnyMoeBaseModelMixin, Cache, DeviceMapper, EitherCache, FlashParams, IsqModel,
    ModelConfigMetadata, NonGranularState, NormalModel, PagedAttentionInputMetadata,
    Sequence as EngineSequence, UnVarBuilder,
};
use mistralrs_quant::QuantMethod;

use super::chain_choice::chains_of;
use super::counters::Counters;
use super::prompt_probe::{PromptProbe, ROWS_AT_ONCE};
use super::speculation::{Computing, Row, Speculation};
use super::step::{decoded_rows, padded, scratch_blocks, step, Batch, Paging};
use crate::model::{Colm, Step};

/// Positions per block where the model runs outside the engine's cache.
const SCRATCH_BLOCK_SIZE: usize = 32;

/// The trait's functions that hand out weights cannot fail.
const UNPACKED: &str = "weights in host memory can be unpacked";

/// A loaded model, between the engine and [`Colm::forward`].
pub struct HostedColm {
    pub(super) config: ColmConfig,
    pub(super) colm: Colm,
    pub(super) metadata: ModelConfigMetadata,
    pub(super) mapper: Box<dyn DeviceMapper + Send + Sync>,
    pub(super) counters: Arc<Counters>,
    /// The engine asks for one, though the paged cache is the only one in use.
    pub(super) unused_cache: EitherCache,
    /// The sequences of the next forward pass.
    announced: Mutex<Vec<Announced>>,
    speculation: Mutex<Speculation>,
}

/// A sequence of a forward pass.
#[derive(Clone)]
struct Announced {
    /// The engine's id of it, if it decodes.
    decoding: Option<usize>,
    /// k
    chains: usize,
    /// What its request wants to know of its prompt.
    probe: Option<Arc<PromptProbe>>,
}

impl HostedColm {
    pub(super) fn new(
        config: ColmConfig,
        colm: Colm,
        metadata: ModelConfigMetadata,
        mapper: Box<dyn DeviceMapper + Send + Sync>,
        counters: Arc<Counters>,
        drafts: usize,
    ) -> Self {
        let unused_cache = EitherCache::Full(Cache::new(metadata.num_layers, false));
        let speculation = Mutex::new(Speculation::new(drafts, counters.clone()));
        let announced = Mutex::default();
        Self { config, colm, metadata, mapper, counters, unused_cache, announced, speculation }
    }

    /// The chain count of a request: what its model id says, or all.
    fn chains_asked(&self, requested_model_id: Option<&str>) -> usize {
        let loaded = self.colm.chains();
        let asked = requested_model_id.and_then(chains_of);
        asked.filter(|k| (1..=loaded).contains(k)).unwrap_or(loaded)
    }

    /// The sequences of this forward pass. Passes that no `begin_step` announced (calibration) run all
    /// chains.
    fn take_announced(&self, sequences: usize) -> Result<Vec<Announced>> {
        let announced = std::mem::take(&mut *locked(&self.announced));
        match announced.len() {
            0 => {
                let chains = self.colm.chains();
                Ok(vec![Announced { decoding: None, chains, probe: None }; sequences])
            }
            count if count == sequences => Ok(announced),
            count => bail!("a step of {count} sequences was announced, {sequences} came"),
        }
    }

    /// The rows of a batch that decodes, if there are drafts to be made or used.
    fn rows_to_speculate(
        &self,
        batch: &Batch<'_>,
        paging: &Paging,
        announced: &[Announced],
    ) -> Result<Option<Vec<Row>>> {
        if !locked(&self.speculation).is_on() {
            return Ok(None);
        }
        let ids: Option<Vec<usize>> = announced.iter().map(|one| one.decoding).collect();
        ids.map_or(Ok(None), |ids| decoded_rows(batch, paging, &ids))
    }

    /// The logits after the last rows; what is to be known of the other rows goes to the probes.
    fn forward_probed(
        &self,
        step: &Step,
        kv: &[KvBlocks],
        announced: &[Announced],
    ) -> Result<Tensor> {
        let (z, rows) = self.colm.hidden(step, kv)?;
        let announced_len = announced.len();
        let mut asked_by_engine = Vec::with_capacity(announced_len);
        for (index, (sequence, announced)) in rows.sequences().iter().zip(announced).enumerate() {
            let Some(probe) = &announced.probe else {
                asked_by_engine.push(sequence.logits.clone());
                continue;
            };
            asked_by_engine.push(sequence.rows - 1..sequence.rows);
            probe.start();
            let tokens = step.tokens_of_sequence(index);
            for first in (0..sequence.rows).step_by(ROWS_AT_ONCE) {
                let end = sequence.rows.min(first + ROWS_AT_ONCE);
                let mut asked = vec![0..0; announced_len];
                asked[index] = first..end;
                let logits = self.colm.logits(&z, &rows, &rows.at(asked)?)?;
                probe.add(&logits, &tokens[first + 1..sequence.rows.min(end + 1)])?;
            }
        }
        let asked = rows.at(asked_by_engine)?;
        padded(&self.colm.logits(&z, &rows, &asked)?, &asked)
    }

    fn kv_blocks(&self, cache: Vec<(Tensor, Tensor)>) -> Result<Vec<KvBlocks>> {
        let layers = cache.iter();
        layers
            .map(|(keys, values)| KvBlocks::from_host(keys, values, self.config.head_dim))
            .collect()
    }

    fn scratch(&self, input_ids: &Tensor) -> Result<(Vec<KvBlocks>, Paging)> {
        let (sequences, longest) = input_ids.dims2()?;
        let blocks = sequences * longest.div_ceil(SCRATCH_BLOCK_SIZE);
        let heads = self.metadata.num_kv_heads;
        let (dtype, device) = (self.colm.dtype(), self.colm.device());
        let layer = |_| {
            scratch_blocks(blocks, SCRATCH_BLOCK_SIZE, heads, self.config.head_dim, dtype, device)
        };
        let kv = (0..self.metadata.num_layers).map(layer).collect::<Result<_>>()?;
        Ok((kv, Paging::scratch(input_ids, SCRATCH_BLOCK_SIZE)?))
    }
}

/// The probe that the request of `sequence` brings, if it still has rows to see.
fn probe_of(sequence: &EngineSequence) -> Option<Arc<PromptProbe>> {
    let probe = sequence.extension()?.clone().downcast::<PromptProbe>().ok()?;
    probe.is_open().then_some(probe)
}

/// What a panic elsewhere left behind is whole: nothing is changed in several places.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NormalModel for HostedColm {
    fn begin_step(&self, sequences: &[&mut EngineSequence], is_prompt: bool) {
        let announced = sequences.iter().map(|sequence| Announced {
            decoding: (!is_prompt).then(|| *sequence.id()),
            chains: self.chains_asked(sequence.requested_model_id()),
            probe: is_prompt.then(|| probe_of(sequence)).flatten(),
        });
        *locked(&self.announced) = announced.collect();
        if is_prompt {
            let mut speculation = locked(&self.speculation);
            sequences.iter().for_each(|sequence| speculation.forget(*sequence.id()));
        }
        self.counters.add_step();
        for sequence in sequences {
            match is_prompt {
                true => {
                    let reused = sequence.prefix_cache_len();
                    self.counters.add_prompt(sequence.get_toks().len() - reused, reused);
                }
                false => self.counters.add_decoded(1),
            }
        }
    }

    /// Plain CoLM's keys and values above chain 1 exist only where the request computed them, so
    /// requests share cached blocks only with requests of the same chain count. Air's are the same at
    /// every count.
    fn cache_salt(&self, requested_model_id: Option<&str>) -> Option<String> {
        let k = self.chains_asked(requested_model_id);
        let kv_heads = &self.config.kv_heads;
        let depends = (1..self.colm.chains()).any(|chain| kv_heads.of(chain) > 0);
        depends.then(|| format!("chains={k}"))
    }

    fn forward(
        &self,
        input_ids: &Tensor,
        seqlen_offsets: &[usize],
        context_lens: Vec<(usize, usize)>,
        _position_ids: Vec<usize>,
        metadata: Option<(Vec<(Tensor, Tensor)>, &PagedAttentionInputMetadata)>,
        _flash_params: &FlashParams,
    ) -> Result<Tensor> {
        let announced = self.take_announced(input_ids.dim(0)?)?;
        let chains: Vec<usize> = announced.iter().map(|one| one.chains).collect();
        let all_rows: Vec<bool> = announced.iter().map(|one| one.probe.is_some()).collect();
        let (kv, paging) = match metadata {
            Some((cache, metadata)) => {
                (self.kv_blocks(cache)?, Paging::of_engine(metadata, self.colm.device())?)
            }
            None => self.scratch(input_ids)?,
        };
        let batch = Batch {
            input_ids,
            seqlen_offsets,
            context_lens: &context_lens,
            chains: &chains,
            all_rows: &all_rows,
        };
        if let Some(rows) = self.rows_to_speculate(&batch, &paging, &announced)? {
            let computing = Computing { colm: &self.colm, config: &self.config, kv: &kv };
            return locked(&self.speculation).forward(&rows, &computing)?.unsqueeze(1);
        }
        let step = step(&batch, paging, &self.config.kv_heads)?;
        if all_rows.contains(&true) {
            return self.forward_probed(&step, &kv, &announced);
        }
        padded(&self.colm.forward(&step, &kv)?, &step.active)
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
        bail!("CoLM has no X-LoRA")
    }

    fn is_xlora(&self) -> bool {
        false
    }

    fn device(&self) -> &Device {
        self.colm.device()
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

impl IsqModel for HostedColm {
    fn get_layers(
        &mut self,
    ) -> (Vec<(&mut Arc<dyn QuantMethod>, Option<usize>)>, &dyn DeviceMapper) {
        let mut layers: Vec<(&mut Arc<dyn QuantMethod>, Option<usize>)> = Vec::new();
        let head = self.colm.head.blocks_mut().expect(UNPACKED);
        layers.extend(head.into_iter().map(|block| (block, None)));
        for (index, block) in self.colm.blocks.iter_mut().enumerate() {
            for linear in block.linears_mut() {
                let blocks = linear.blocks_mut().expect(UNPACKED);
                layers.extend(blocks.iter_mut().map(|block| (block, Some(index))));
            }
        }
        (layers, &*self.mapper)
    }

    /// The names of calibration statistics, in the order of `get_layers`: the head has none.
    fn imatrix_names(&self) -> Result<Vec<Option<String>>> {
        let chains = self.colm.chains();
        let mut names = vec![None; chains];
        for layer in 0..self.metadata.num_layers {
            for projection in Projection::ALL {
                let part = Part::Weight { layer, projection };
                let owned = (0..chains).filter(|&i| self.config.chain_tensor(part, i).is_some());
                names.extend(owned.map(|i| Some(part.chain_name(i))));
            }
        }
        Ok(names)
    }

    fn residual_tensors(&self) -> Vec<(String, Tensor)> {
        let residual = UnVarBuilder::new();
        let tables = self.colm.embedding.tables().expect(UNPACKED);
        let add = |name: String, tensors: &[Tensor]| {
            for (i, tensor) in tensors.iter().enumerate() {
                residual.pp(&name).pp("chains").pp(i).add_tensor("weight", tensor.clone());
            }
        };
        add("model.embed_tokens".into(), &tables);
        add("model.norm".into(), &self.colm.norm.weights);
        for (layer, block) in self.colm.blocks.iter().enumerate() {
            add(format!("model.layers.{layer}.input_layernorm"), &block.input_norm.weights);
            let norm = &block.post_attention_norm;
            add(format!("model.layers.{layer}.post_attention_layernorm"), &norm.weights);
        }
        residual.to_safetensors()
    }
}

impl AnyMoeBaseModelMixin for HostedColm {}
