//! The formula of attention in f64: no tiles, no online softmax, no paging.

use colm_kernels_twin::attention::ChainHeads;
use colm_kernels_twin::Order;

use super::{Chain, Shape, Step};
use crate::half_float::HalfFloat;

impl<T: HalfFloat> Step<T> {
    /// Compares with the formula, head by head. The result must be the same in both orders of the threads.
    pub fn check(&mut self, chains: &[Chain<T>], scale: f32) {
        let [outs, descending] = Order::ALL.map(|order| {
            order.set();
            self.attend(chains, scale)
        });
        for (out, descending) in outs.iter().zip(&descending) {
            assert!(out.iter().zip(descending).all(|(a, b)| a.bits() == b.bits()));
        }
        let head_dim = self.cache.shape.head_dim;
        for (index, (chain, out)) in chains.iter().zip(&outs).enumerate() {
            let expected = self.expected(chain, f64::from(scale));
            for (at, (out, expected)) in
                out.chunks(head_dim).zip(expected.chunks(head_dim)).enumerate()
            {
                let error =
                    norm(out.iter().zip(expected).map(|(out, expected)| out.wide() - expected));
                let size = norm(expected.iter().copied());
                assert!(
                    error <= T::TOLERANCE * size,
                    "chain {}, row {}, head {}: error {error} of {size}",
                    index + 1,
                    at / chain.heads.heads as usize,
                    at % chain.heads.heads as usize,
                );
            }
        }
    }

    fn expected(&self, chain: &Chain<T>, scale: f64) -> Vec<f64> {
        let Shape { head_dim, .. } = self.cache.shape;
        let ChainHeads { heads, first_kv_head, kv_heads } = chain.heads;
        let rows = chain.ranges.iter().flat_map(|&(sequence, first, rows)| {
            (first..first + rows).map(move |position| (sequence, position))
        });
        let mut out = Vec::new();
        for (row, (sequence, position)) in rows.enumerate() {
            for head in 0..heads as usize {
                let kv_head = first_kv_head as usize + head * kv_heads as usize / heads as usize;
                let q = &chain.q.as_slice()[row * chain.q_stride + head * head_dim..][..head_dim];
                out.extend(self.formula(sequence, position, kv_head, q, scale));
            }
        }
        out
    }

    fn formula(
        &self,
        sequence: usize,
        position: usize,
        kv_head: usize,
        q: &[T],
        scale: f64,
    ) -> Vec<f64> {
        let head_dim = q.len();
        let (keys, values) = &self.sequences[sequence];
        let start = |at: usize| (at * self.cache.shape.kv_heads + kv_head) * head_dim;
        let score = |at: usize| -> f64 {
            let key = &keys[start(at)..][..head_dim];
            scale * q.iter().zip(key).map(|(x, y)| x.wide() * y.wide()).sum::<f64>()
        };
        let scores: Vec<f64> = (0..=position).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..head_dim)
            .map(|column| {
                let weighted = |at: usize| weights[at] * values[start(at) + column].wide();
                (0..=position).map(weighted).sum::<f64>() / sum
            })
            .collect()
    }
}

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}
