//! Chain attention over the paged KV cache, all chains of a layer in one plan (`docs/spec.md#layers`,
//! `docs/spec.md#prefix-chain-prefill`).

use candle_core::{bail, DType, Device, Result, Tensor};

pub use crate::ffi::attention::{ChainHeads, QueryRange};

use crate::ffi::attention::{self as ffi, colm_attention_plan, colm_chain_attention};
use crate::limits::DECODE_QUERIES;
use crate::memory::{
    address, address_or_null, check_chain_count, code_of, empty, empty_parts, int, launched, stream,
};
use crate::KvBlocks;

/// The division of a step's attention into thread blocks. All layers of the step share it.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    chains: Vec<ChainHeads>,
    counts: ffi::AttentionPlan,
    /// The plan on the device, u32.
    words: Tensor,
    rows: Vec<usize>,
    sequences: usize,
    visible: usize,
}

impl AttentionPlan {
    /// Plans the attention of `ranges`, which are those of all chains: each chain's in the order of its query rows.
    /// `device` is that of the tensors.
    ///
    /// # Errors
    /// If there are more than [`MAX_CHAINS`](crate::limits::MAX_CHAINS) chains, or if heads or ranges are invalid.
    pub fn new(chains: &[ChainHeads], ranges: &[QueryRange], device: &Device) -> Result<Self> {
        check_chain_count(chains.len())?;
        let mut words = vec![0; MAX_DECODE_WORDS * ranges.len()];
        let mut counts = plan_into(&mut words, chains, ranges)?;
        if counts.words as usize > words.len() {
            words.resize(counts.words as usize, 0);
            counts = plan_into(&mut words, chains, ranges)?;
        }
        // At least one, so that there is an address.
        words.resize((counts.words as usize).max(1), 0);
        let mut rows = vec![0; chains.len()];
        for range in ranges {
            rows[range.chain as usize] += range.rows as usize;
        }
        Ok(Self {
            chains: chains.to_vec(),
            counts,
            words: Tensor::new(words, device)?,
            rows,
            sequences: ranges.iter().map(|range| range.sequence as usize + 1).max().unwrap_or(0),
            visible: ranges
                .iter()
                .map(|range| (range.first_position + range.rows) as usize)
                .max()
                .unwrap_or(0),
        })
    }
}

/// At least the words of the plan of one range of few rows. Ranges of many rows may take more.
const MAX_DECODE_WORDS: usize = 16;

/// Writes the plan to `words` if it fits. Returns its counts.
fn plan_into(
    words: &mut [u32],
    chains: &[ChainHeads],
    ranges: &[QueryRange],
) -> Result<ffi::AttentionPlan> {
    let mut counts = ffi::AttentionPlan::default();
    let (chain_count, range_count) = (int(chains.len())?, int(ranges.len())?);
    let capacity = int(words.len())?;
    // SAFETY: pointers and lengths are those of the slices.
    let status = unsafe {
        let (words, ranges) = (words.as_mut_ptr(), ranges.as_ptr());
        colm_attention_plan(
            chains.as_ptr(),
            chain_count,
            ranges,
            range_count,
            words,
            capacity,
            &mut counts,
        )
    };
    launched("attention_plan", status)?;
    Ok(counts)
}

/// Causal softmax attention of every chain over the KV cache. `q` and the results are per chain
/// `[rows, heads_i, head_dim]` in the dtype of the cache. `tables` is u32 `[sequences, max_blocks]`, the KV blocks of
/// each sequence in order. `scale` multiplies the products of queries and keys.
///
/// # Errors
/// If a shape or dtype does not match the plan or the cache. The block numbers in `tables` are not checked: they must
/// be within the cache as far as the plan's rows see.
pub fn chain_attention(
    plan: &AttentionPlan,
    q: &[&Tensor],
    kv: &KvBlocks,
    tables: &Tensor,
    scale: f32,
) -> Result<Vec<Tensor>> {
    let Some(first) = q.first() else { return Ok(Vec::new()) };
    let (dtype, device) = (first.dtype(), first.device());
    plan.check(q, kv, tables)?;
    let outs = empty_parts(q.iter().map(|q| q.dims()), dtype, device)?;
    let tensors = q.iter().zip(&outs).map(|(q, out)| {
        Ok(ffi::ChainTensors {
            q: address(q, device)?,
            out: address(out, device)?,
            q_stride: (q.dim(1)? * kv.head_dim) as i64,
        })
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    // Not kept for the next layer: with many long sequences it is hundreds of megabytes.
    let partials = match plan.counts.partials as usize * DECODE_QUERIES * (kv.head_dim + 2) {
        0 => None,
        floats => Some(empty(&[floats], DType::F32, device)?),
    };
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, which are freed on the stream
    // of the work. The plan's ranges are within the queries and the tables.
    let status = unsafe {
        colm_chain_attention(
            code_of(dtype)?,
            int(kv.head_dim)?,
            plan.chains.as_ptr(),
            tensors.as_ptr(),
            int(tensors.len())?,
            &kv.ffi(device)?,
            address(tables, device)?.cast(),
            int(tables.dim(1)?)?,
            address(&plan.words, device)?.cast(),
            &plan.counts,
            address_or_null(partials.as_ref(), device)?.cast(),
            scale,
            stream(device)?,
        )
    };
    launched("chain_attention", status)?;
    Ok(outs)
}

impl AttentionPlan {
    fn check(&self, q: &[&Tensor], kv: &KvBlocks, tables: &Tensor) -> Result<()> {
        if q.len() != self.chains.len() {
            bail!("queries of {} chains, but a plan for {}", q.len(), self.chains.len());
        }
        for (chain, ((q, heads), &rows)) in q.iter().zip(&self.chains).zip(&self.rows).enumerate() {
            let expected = [rows, heads.heads as usize, kv.head_dim];
            if q.dims() != expected || q.dtype() != kv.keys.dtype() {
                bail!(
                    "the queries of chain {} must be {:?} {expected:?}, not {:?} {:?}",
                    chain + 1,
                    kv.keys.dtype(),
                    q.dtype(),
                    q.dims()
                );
            }
        }
        let (sequences, blocks) = tables.dims2()?;
        if tables.dtype() != DType::U32
            || sequences < self.sequences
            || blocks * kv.block_size < self.visible
        {
            bail!(
                "block tables of {:?} {:?} are not U32 or too small for {} sequences of up to {} \
                 positions in blocks of {}",
                tables.dtype(),
                tables.dims(),
                self.sequences,
                self.visible,
                kv.block_size
            );
        }
        Ok(())
    }
}
