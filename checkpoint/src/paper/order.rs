//! The order of rows and columns in the paper's conventions.
//!
//! Two things differ from the chain layout:
//!
//! - RoPE rotates neighbors there, elements 2j and 2j + 1 of a head, and halves here, elements j and j + head_dim / 2.
//!   Both rotate pair j by the same angle. So the rows of each head of q and k change places.
//! - In Air, the paper repeats the key/value heads as a whole: query head h reads head h mod kv. Here consecutive query
//!   heads read the same head: floor(h * kv / heads). So the heads of q change places, and with them the columns of o.

use std::ops::Range;

use crate::config::{Architecture, ColmConfig};
use crate::format::{ChainTensor, Projection, TensorId};

/// Where a tensor of the paper's conventions has the rows and columns of the chain layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The row there of each row here.
    pub rows: Vec<usize>,
    /// The columns there of all columns here, from left to right.
    pub columns: Vec<Range<usize>>,
}

impl Order {
    /// The order of `tensor`; None if it is the same.
    pub fn of(config: &ColmConfig, tensor: &ChainTensor) -> Option<Self> {
        let TensorId::Weight { projection, .. } = tensor.id else { return None };
        let all_rows = || (0..tensor.rows.len()).collect();
        let all_columns = || vec![tensor.columns.clone().unwrap_or(0..1)];
        match (projection, config.architecture) {
            (Projection::Q, _) => {
                let heads = head_order(config, tensor.chain);
                Some(Self { rows: rotary_rows(&heads, config.head_dim), columns: all_columns() })
            }
            (Projection::K, _) => {
                let heads: Vec<_> = (0..config.kv_heads.of(tensor.chain)).collect();
                Some(Self { rows: rotary_rows(&heads, config.head_dim), columns: all_columns() })
            }
            (Projection::O, Architecture::ColmAir) => {
                Some(Self { rows: all_rows(), columns: head_columns(config, tensor.chain) })
            }
            _ => None,
        }
    }
}

/// The paper's query head at the place of each query head of `chain` here, from 0 within the chain.
fn head_order(config: &ColmConfig, chain: usize) -> Vec<usize> {
    let heads = config.heads.of(chain);
    match config.architecture {
        // Query heads that read the same key/value head are consecutive in both.
        Architecture::Colm => (0..heads).collect(),
        Architecture::ColmAir => {
            let kv = config.kv_heads.of(0);
            let readers = heads / kv;
            (0..heads).map(|head| head % readers * kv + head / readers).collect()
        }
    }
}

/// The rows of `heads`, with the first elements of all pairs of a head before the second ones.
fn rotary_rows(heads: &[usize], head_dim: usize) -> Vec<usize> {
    let of_head = |&head: &usize| {
        let first = head * head_dim;
        (0..head_dim).step_by(2).chain((1..head_dim).step_by(2)).map(move |row| first + row)
    };
    heads.iter().flat_map(of_head).collect()
}

/// The columns of all heads that o of `chain` reads: those of its own chain and of the chains before.
fn head_columns(config: &ColmConfig, chain: usize) -> Vec<Range<usize>> {
    let of_chain = |read: usize| {
        let first = config.heads.range(read).start;
        head_order(config, read).into_iter().map(move |head| first + head)
    };
    let columns = |head: usize| head * config.head_dim..(head + 1) * config.head_dim;
    (0..=chain).flat_map(of_chain).map(columns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigFile;

    fn order(architecture: Architecture, projection: Projection, chain: usize) -> Option<Order> {
        let file = ConfigFile {
            vocab_size: 4,
            hidden_size: 40,
            intermediate_size: 10,
            num_hidden_layers: 1,
            num_attention_heads: 10,
            num_key_value_heads: Some(if architecture == Architecture::Colm { 5 } else { 2 }),
            max_position_embeddings: 8,
            ..ConfigFile::new(architecture, vec![6, 4])
        };
        let config = ColmConfig::new(file).unwrap();
        let id = TensorId::Weight { layer: 0, projection };
        Order::of(&config, &config.chain_tensor(id, chain).unwrap())
    }

    #[test]
    fn neighbors_become_halves() {
        for projection in [Projection::Q, Projection::K] {
            let order = order(Architecture::Colm, projection, 1).unwrap();
            assert_eq!(order.rows[..8], [0, 2, 1, 3, 4, 6, 5, 7]);
            assert!(order.columns.iter().cloned().flatten().eq(0..40));
        }
        let keys = order(Architecture::ColmAir, Projection::K, 0).unwrap();
        assert_eq!(keys.rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert!(keys.columns.into_iter().flatten().eq(0..24));
    }

    #[test]
    fn readers_of_a_shared_head_become_consecutive() {
        // Heads 0, 2, 4 read the first shared head there, and heads 1, 3, 5 the second.
        let q = order(Architecture::ColmAir, Projection::Q, 0).unwrap();
        let heads: Vec<_> = q.rows.iter().step_by(4).map(|row| row / 4).collect();
        assert_eq!(heads, [0, 2, 4, 1, 3, 5]);
        let o = order(Architecture::ColmAir, Projection::O, 1).unwrap();
        let heads: Vec<_> = o.columns.iter().map(|columns| columns.start / 4).collect();
        assert_eq!(heads, [0, 2, 4, 1, 3, 5, 6, 8, 7, 9]);
        assert!(o.rows.iter().copied().eq(0..16));
    }

    #[test]
    fn everything_else_stays() {
        for architecture in [Architecture::Colm, Architecture::ColmAir] {
            for projection in [Projection::V, Projection::Gate, Projection::Up, Projection::Down] {
                assert_eq!(order(architecture, projection, 0), None);
            }
        }
        assert_eq!(order(Architecture::Colm, Projection::O, 1), None);
    }
}
