//! The launches of attention.

use colm_kernels_twin::attention::{
    colm_attention_plan, colm_chain_attention, AttentionPlan, ChainTensors, QueryRange,
};
use colm_kernels_twin::limits::DECODE_QUERIES;
use colm_kernels_twin::{status_text, Aligned};

use super::{Chain, Step};
use crate::half_float::HalfFloat;

impl<T: HalfFloat> Step<T> {
    /// Runs the launchers. Returns per chain `[rows, heads, head_dim]`.
    pub fn attend(&mut self, chains: &[Chain<T>], scale: f32) -> Vec<Vec<T>> {
        self.try_attend(chains, scale).unwrap_or_else(|status| panic!("{}", status_text(status)))
    }

    pub fn try_attend(&mut self, chains: &[Chain<T>], scale: f32) -> Result<Vec<Vec<T>>, i32> {
        let head_dim = self.cache.shape.head_dim;
        let heads: Vec<_> = chains.iter().map(|chain| chain.heads).collect();
        let (words, plan) = plan(chains)?;
        let mut outs: Vec<_> = chains
            .iter()
            .map(|chain| {
                Aligned::new(&vec![T::NAN; chain.rows() * chain.heads.heads as usize * head_dim])
            })
            .collect();
        let tensors: Vec<_> = chains
            .iter()
            .zip(&mut outs)
            .map(|(chain, out)| ChainTensors {
                q: chain.q.as_ptr().cast(),
                out: out.as_mut_ptr().cast(),
                q_stride: chain.q_stride as i64,
            })
            .collect();
        let max_blocks = self.tables.iter().map(Vec::len).max().unwrap_or(0);
        // The tables are padded with a block that does not exist.
        let tables: Vec<u32> = self
            .tables
            .iter()
            .flat_map(|table| {
                table.iter().copied().chain(std::iter::repeat(1 << 20)).take(max_blocks)
            })
            .collect();
        let partial = DECODE_QUERIES * (head_dim + 2);
        let mut partials = Aligned::new(&vec![f32::NAN; plan.partials as usize * partial]);
        // SAFETY: the arrays have the lengths passed to the launcher or required by the plan.
        let status = unsafe {
            colm_chain_attention(
                T::DTYPE,
                head_dim as i32,
                heads.as_ptr(),
                tensors.as_ptr(),
                chains.len() as i32,
                &self.cache.blocks(),
                tables.as_ptr(),
                max_blocks as i32,
                words.as_ptr(),
                &plan,
                partials.as_mut_ptr(),
                scale,
                std::ptr::null_mut(),
            )
        };
        match status {
            0 => Ok(outs.iter().map(|out| out.as_slice().to_vec()).collect()),
            status => Err(status),
        }
    }
}

/// The plan of a step and its counts.
pub fn plan<T>(chains: &[Chain<T>]) -> Result<(Vec<u32>, AttentionPlan), i32> {
    let heads: Vec<_> = chains.iter().map(|chain| chain.heads).collect();
    let ranges: Vec<_> =
        chains.iter().enumerate().flat_map(|(i, chain)| query_ranges(i, chain)).collect();
    let mut words = Vec::new();
    let mut plan = AttentionPlan::default();
    // Once for the counts, once for the plan.
    for _ in 0..2 {
        words.resize(plan.words as usize, 0);
        // SAFETY: the arrays have the lengths passed to the launcher.
        let status = unsafe {
            colm_attention_plan(
                heads.as_ptr(),
                heads.len() as i32,
                ranges.as_ptr(),
                ranges.len() as i32,
                words.as_mut_ptr(),
                words.len() as i32,
                &mut plan,
            )
        };
        if status != 0 {
            return Err(status);
        }
    }
    Ok((words, plan))
}

fn query_ranges<T>(index: usize, chain: &Chain<T>) -> Vec<QueryRange> {
    let mut first_row = 0;
    let range = |&(sequence, first, rows): &(usize, usize, usize)| {
        let range = QueryRange {
            chain: index as i32,
            sequence: sequence as i32,
            first_position: first as i32,
            rows: rows as i32,
            first_row,
        };
        first_row += rows as i32;
        range
    };
    chain.ranges.iter().map(range).collect()
}
