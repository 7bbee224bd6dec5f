//! [`Colm`] as the engine's `NormalModel`.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{bail, Device, Error, Result, Tensor};
use colm_checkpoint::ChainCount;
use colm_kernels::KvBlocks;
use mistralrs_core::ext::{
    AnyMoeBaseModelMixin, Cache, DeviceMapper, EitherCache, Extension, FlashParams,
    ModelConfigMetadata, NonGranularState, NormalModel, PagedAttentionInputMetadata,
    Sequence as EngineSequence,
};

use super::batch::{decode_row, Batch, Paging, RequestedLogits};
use super::loaded::Loaded;
use super::prompt_probe::ROWS_AT_ONCE;
use super::request_options::RequestOptions;
use super::step_plan::{requested_chains, RequestedChains, SequencePlan, StepPlan};
use crate::model::speculation::{DecodeRow, ForwardContext, Speculation};
use crate::model::{Colm, SequenceInput, Step};

/// Positions per block where the model runs outside the engine's cache.
const SCRATCH_BLOCK_SIZE: usize = 32;

/// Adapts a loaded [`Colm`] to the engine's `NormalModel`.
pub struct HostedColm {
    pub(super) colm: Colm,
    pub(super) metadata: ModelConfigMetadata,
    pub(super) mapper: Box<dyn DeviceMapper + Send + Sync>,
    pub(super) loaded: Arc<Loaded>,
    /// The host's trait requires one; only the paged cache is used.
    pub(super) unused_cache: EitherCache,
    /// Set by `begin_step`, taken by `forward`.
    plan: StepPlan,
    speculation: Speculation,
    /// Per chain, the elements of its linear layers.
    linear_weights: Vec<usize>,
}

impl HostedColm {
    pub(super) fn new(
        colm: Colm,
        metadata: ModelConfigMetadata,
        mapper: Box<dyn DeviceMapper + Send + Sync>,
        loaded: Arc<Loaded>,
        max_drafts: usize,
    ) -> Self {
        let unused_cache = EitherCache::Full(Cache::new(metadata.num_layers, false));
        let speculation = Speculation::new(max_drafts, loaded.counters().drafts.clone());
        let plan = StepPlan::default();
        let linear_weights =
            (0..colm.chain_count().get()).map(|chain| colm.config().linear_weights(chain));
        let linear_weights =
            linear_weights.map(|weights| usize::try_from(weights).unwrap_or(usize::MAX)).collect();
        Self { colm, metadata, mapper, loaded, unused_cache, plan, speculation, linear_weights }
    }

    fn requested_chains(
        &self,
        model_id: Option<&str>,
        extension: Option<&Extension>,
    ) -> RequestedChains {
        requested_chains(model_id, extension, self.loaded.name(), self.colm.chain_count())
    }

    /// The logits that `sequences` request. Rows that are accepted drafts are not computed. If all other rows decode, new
    /// tokens are drafted after them.
    fn speculate(
        &self,
        sequences: Vec<SequenceInput>,
        plans: Vec<SequencePlan>,
        kv: &[KvBlocks],
    ) -> Result<RequestedLogits> {
        let rows = sequences.iter().zip(&plans).map(|(sequence, plan)| decode_row(sequence, plan));
        let rows: Vec<Option<DecodeRow>> = rows.collect();
        let known = self.speculation.accept(&rows);
        let is_missing = || known.iter().map(Option::is_none);
        let missing_rows = rows.into_iter().zip(is_missing());
        let missing_rows = missing_rows.filter_map(|(row, is_missing)| is_missing.then_some(row));
        let missing_rows: Vec<Option<DecodeRow>> = missing_rows.collect();
        if missing_rows.is_empty() {
            return RequestedLogits::merged(known, None);
        }
        let missing_rows: Option<Vec<DecodeRow>> = missing_rows.into_iter().collect();
        let computed = if let Some(rows) = missing_rows {
            let context = ForwardContext { colm: &self.colm, kv };
            let logits = self.speculation.draft_and_verify(&rows, &context)?;
            RequestedLogits::one_each(logits, rows.len())
        } else {
            let missing = sequences.into_iter().zip(plans).zip(is_missing());
            let missing =
                missing.filter_map(|(sequence, is_missing)| is_missing.then_some(sequence));
            let (sequences, plans): (_, Vec<_>) = missing.unzip();
            self.compute(sequences, kv, &plans)?
        };
        RequestedLogits::merged(known, Some(computed))
    }

    /// The logits after the last row of each sequence. Those of the other rows go to the probes.
    fn forward_probed(
        &self,
        step: &Step,
        kv: &[KvBlocks],
        plans: &[SequencePlan],
    ) -> Result<RequestedLogits> {
        let (z, rows) = self.colm.hidden(step, kv)?;
        let mut for_engine = Vec::with_capacity(plans.len());
        for (index, (sequence, plan)) in rows.sequences().iter().zip(plans).enumerate() {
            let Some(probe) = &plan.probe else {
                for_engine.push(sequence.logits.clone());
                continue;
            };
            for_engine.push(sequence.count - 1..sequence.count);
            if sequence.first_position == 0 {
                probe.start();
            }
            let tokens = step.tokens_of_sequence(index)[1..].iter().copied();
            let next: Vec<u32> = tokens.chain(plan.next_token).collect();
            for first in (0..sequence.count).step_by(ROWS_AT_ONCE) {
                let end = sequence.count.min(first + ROWS_AT_ONCE);
                let mut selected = vec![0..0; plans.len()];
                selected[index] = first..end;
                let logits = self.colm.logits(&z, &rows, &rows.restricted_to(selected)?)?;
                probe.add(&logits, &next[first..end.min(next.len())])?;
            }
        }
        let for_engine = rows.restricted_to(for_engine)?;
        Ok(RequestedLogits::new(self.colm.logits(&z, &rows, &for_engine)?, &for_engine))
    }

    /// The logits that `sequences` request. Counts and times the prompts among them.
    fn compute(
        &self,
        sequences: Vec<SequenceInput>,
        kv: &[KvBlocks],
        plans: &[SequencePlan],
    ) -> Result<RequestedLogits> {
        let block_size = kv.first().map_or(SCRATCH_BLOCK_SIZE, KvBlocks::block_size);
        let step = &self.colm.step(sequences, block_size)?;
        self.count_prompt_work(step, plans);
        let began = Instant::now();
        let logits = if plans.iter().any(|plan| plan.probe.is_some()) {
            self.forward_probed(step, kv, plans)?
        } else {
            RequestedLogits::new(self.colm.forward(step, kv)?, &step.active)
        };
        let prompts = step.active.sequences().iter().zip(plans);
        let prompts = prompts.filter(|(_, plan)| plan.decoding.is_none());
        let prompt_rows: usize = prompts.map(|(sequence, _)| sequence.count).sum();
        if prompt_rows >= block_size {
            self.loaded.prefill_rate().add(prompt_rows, began.elapsed());
        }
        Ok(logits)
    }

    /// Counts the work for the prompts of `step`.
    fn count_prompt_work(&self, step: &Step, plans: &[SequencePlan]) {
        let (mut computed, mut saved) = (0, 0);
        for (index, sequence) in step.active.sequences().iter().enumerate() {
            if plans[index].decoding.is_some() {
                continue;
            }
            for (chain, weights) in
                self.linear_weights.iter().take(sequence.chain_count).enumerate()
            {
                let rows = step.active.count_of_sequence(chain, index);
                computed += rows * weights;
                saved += (sequence.count - rows) * weights;
            }
        }
        self.loaded.counters().add_prompt_work(computed, saved);
    }

    fn kv_blocks(&self, cache: Vec<(Tensor, Tensor)>) -> Result<Vec<KvBlocks>> {
        let layers = cache.iter();
        layers
            .map(|(keys, values)| KvBlocks::from_tensors(keys, values, self.colm.config().head_dim))
            .collect()
    }

    fn scratch(&self, input_ids: &Tensor) -> Result<(Vec<KvBlocks>, Paging)> {
        let (sequences, longest) = input_ids.dims2()?;
        let blocks = sequences * longest.div_ceil(SCRATCH_BLOCK_SIZE);
        let kv = self.colm.new_kv_cache(blocks, SCRATCH_BLOCK_SIZE)?;
        Ok((kv, Paging::scratch(input_ids, SCRATCH_BLOCK_SIZE)?))
    }
}

impl NormalModel for HostedColm {
    fn begin_step(&self, sequences: &[&mut EngineSequence], _is_prompt: bool) {
        let plans = sequences.iter().map(|sequence| {
            let k = self.requested_chains(sequence.requested_model_id(), sequence.extension());
            SequencePlan::of(sequence, k)
        });
        self.plan.set(plans.collect());
        self.loaded.counters().add_step();
        // A step has chunks of prompts and decoding sequences.
        for sequence in sequences {
            if sequence.is_prompt() {
                self.speculation.forget(*sequence.id());
                let (tokens, reused) = (sequence.step_tokens(), sequence.prefix_cache_len());
                let is_first_chunk = tokens.start == reused;
                self.loaded
                    .counters()
                    .add_prompt(tokens.len(), if is_first_chunk { reused } else { 0 });
                if let Some(options) = RequestOptions::of(sequence.extension()) {
                    options.cached_tokens.get_or_init(|| reused);
                }
            } else {
                self.loaded.counters().add_decoded(1);
            }
        }
    }

    /// A CoLM at k chains writes keys and values of chains 1 to k only, so requests share cached blocks with requests
    /// of the same chain count only. The keys and values of an Air are the same at every chain count.
    fn cache_salt(
        &self,
        requested_model_id: Option<&str>,
        extension: Option<&Extension>,
    ) -> Result<Option<String>> {
        // A request without a valid chain count is refused here.
        let k = self.requested_chains(requested_model_id, extension).map_err(Error::wrap)?;
        if let Some(identity) = self.loaded.kv_identity() {
            return Ok(Some(identity.salt(k).into()));
        }
        let kv_heads = &self.colm.config().kv_heads;
        let depends = (1..self.colm.chain_count().get()).any(|chain| kv_heads.of(chain) > 0);
        Ok(depends.then(|| format!("chains={k}")))
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
        let plans = self.plan.take(input_ids.dim(0)?, self.colm.chain_count())?;
        let chain_counts = plans.iter().map(|plan| plan.chain_count.clone());
        let chain_counts = chain_counts.map(|k| k.map(ChainCount::get).map_err(Error::wrap));
        let chain_counts = chain_counts.collect::<Result<Vec<usize>>>()?;
        let all_logits: Vec<bool> = plans.iter().map(|plan| plan.probe.is_some()).collect();
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
            paging,
            chain_counts: &chain_counts,
            all_logits: &all_logits,
        };
        let sequences = batch.sequences()?;
        let block_size = kv.first().map_or(SCRATCH_BLOCK_SIZE, KvBlocks::block_size);
        batch.check_slots(&sequences, block_size)?;
        let logits = if self.speculation.is_on() {
            self.speculate(sequences, plans, &kv)?
        } else {
            self.compute(sequences, &kv, &plans)?
        };
        logits.padded()
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

impl AnyMoeBaseModelMixin for HostedColm {}
