//! Chain attention over the paged KV cache, all chains of a layer in one plan (`docs/spec.md#layers`,
//! `docs/spec.md#prefix-chain-prefill`).

use candle_core::{bail, DType, Device, Result, Tensor};

pub use crate::ffi::attention::{ChainHeads, QueryRange};

use crate::ffi::attention::{
    self as ffi, colm_attention_plan, colm_chain_attention, AttentionItem,
};
use crate::limits::DECODE_QUERIES;
use crate::memory::{address, check_chain_count, code_of, empty, int, launched, stream};
use crate::KvBlocks;

/// The division of a step's attention into thread blocks. All layers of the step share it.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    chains: Vec<ChainHeads>,
    counts: ffi::AttentionPlan,
    /// The items, as u32 words.
    items: Tensor,
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
        let mut counts = ffi::AttentionPlan::default();
        let plan = |items: &mut [AttentionItem], counts: &mut ffi::AttentionPlan| -> Result<()> {
            let (chain_count, range_count) = (int(chains.len())?, int(ranges.len())?);
            let (heads, ranges) = (chains.as_ptr(), ranges.as_ptr());
            let capacity = int(items.len())?;
            // SAFETY: pointers and lengths are those of the slices.
            let status = unsafe {
                let items = items.as_mut_ptr();
                colm_attention_plan(
                    heads,
                    chain_count,
                    ranges,
                    range_count,
                    items,
                    capacity,
                    counts,
                )
            };
            launched("attention_plan", status)
        };
        plan(&mut [], &mut counts)?;
        let count = (counts.prefill + counts.decode + counts.combine) as usize;
        let mut items = vec![AttentionItem::default(); count];
        plan(&mut items, &mut counts)?;
        let words: Vec<u32> = items.iter().flat_map(AttentionItem::words).collect();
        let mut rows = vec![0; chains.len()];
        for range in ranges {
            rows[range.chain as usize] += range.rows as usize;
        }
        Ok(Self {
            chains: chains.to_vec(),
            counts,
            items: Tensor::from_vec(words, (count, AttentionItem::WORDS), device)?,
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
    let outs = q.iter().map(|q| empty(q.dims(), dtype, device)).collect::<Result<Vec<_>>>()?;
    let tensors = q.iter().zip(&outs).map(|(q, out)| {
        Ok(ffi::ChainTensors {
            q: address(q, device)?,
            out: address(out, device)?,
            q_stride: (q.dim(1)? * kv.head_dim) as i64,
        })
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let partial = DECODE_QUERIES * (kv.head_dim + 2);
    // At least one, so that there is an address.
    let count = plan.counts.partials.max(1) as usize;
    let partials = empty(&[count * partial], DType::F32, device)?;
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
            address(&plan.items, device)?.cast(),
            &plan.counts,
            address(&partials, device)?.cast(),
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
