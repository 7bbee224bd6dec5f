//! Chain attention on a GPU.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use colm_cuda::{AttentionPlan, ChainHeads, QueryRange};

use super::upload_cache::UploadCache;
use crate::{BlockTables, ChainQueries, KvBlocks};

// The layers of a step have the same plan and the same tables; a model may alternate between two.
thread_local! {
    static PLANS: UploadCache<(Vec<ChainHeads>, Vec<QueryRange>), Arc<AttentionPlan>> =
        const { UploadCache::new(2) };
    static TABLES: UploadCache<BlockTables, Tensor> = const { UploadCache::new(2) };
}

/// [`crate::chain_attention`], with checked arguments.
pub(crate) fn attend(
    chains: &[ChainQueries],
    kv: &KvBlocks,
    tables: &BlockTables,
    scale: f32,
) -> Result<Vec<Tensor>> {
    let device = kv.keys().device();
    let plan = plan(chains, device)?;
    let q = chains.iter().map(|chain| chain.q.to_dtype(kv.keys().dtype())?.contiguous());
    let q = q.collect::<Result<Vec<_>>>()?;
    let tables = TABLES.with(|uploaded| {
        uploaded.get_or_upload(device, tables, || upload_tables(tables, device))
    })?;
    let q: Vec<&Tensor> = q.iter().collect();
    let outs = colm_cuda::chain_attention(&plan, &q, &kv.for_gpu(), &tables, scale)?;
    let outs = outs.into_iter().zip(chains).map(|(out, chain)| out.to_dtype(chain.q.dtype()));
    outs.collect()
}

fn plan(chains: &[ChainQueries], device: &Device) -> Result<Arc<AttentionPlan>> {
    let mut heads = Vec::with_capacity(chains.len());
    let mut ranges = Vec::new();
    for (index, chain) in chains.iter().enumerate() {
        heads.push(ChainHeads {
            heads: chain.q.dim(1)? as i32,
            first_kv_head: chain.kv_heads.start as i32,
            kv_heads: chain.kv_heads.len() as i32,
        });
        let mut first_row = 0;
        for range in chain.ranges {
            ranges.push(QueryRange {
                chain: index as i32,
                sequence: range.sequence as i32,
                first_position: range.first_position as i32,
                rows: range.rows as i32,
                first_row,
            });
            first_row += range.rows as i32;
        }
    }
    let key = (heads, ranges);
    PLANS.with(|plans| {
        plans.get_or_upload(device, &key, || {
            AttentionPlan::new(&key.0, &key.1, device).map(Arc::new)
        })
    })
}

/// `[sequences, longest]`. Shorter tables are padded; the kernels do not read the padding.
fn upload_tables(tables: &BlockTables, device: &Device) -> Result<Tensor> {
    let rows =
        (0..tables.sequence_count()).map(|sequence| tables.blocks(sequence).unwrap_or_default());
    let rows: Vec<&[u32]> = rows.collect();
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut blocks = vec![0; rows.len() * longest];
    for (to, from) in blocks.chunks_exact_mut(longest.max(1)).zip(&rows) {
        to[..from.len()].copy_from_slice(from);
    }
    Tensor::from_vec(blocks, (rows.len(), longest), device)
}
