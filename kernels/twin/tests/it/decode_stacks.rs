//! Decoding of several chains over the same key/value heads.

use half::{bf16, f16};

use crate::attention::{bits, scale, PLAIN};
use crate::half_float::HalfFloat;
use crate::paged::{plan, Shape, Step};

/// CoLM-Air reads the keys and values of a decoded token once for all chains.
#[test]
fn chains_that_read_the_same_heads_share_tiles() {
    fn air<T: HalfFloat>(shape: Shape) {
        let mut step = Step::<T>::new(15, &[600, 40], shape);
        let ranges = [(0, 599, 1), (1, 39, 1)];
        let chains = [2, 2, 4, 6].map(|heads| step.chain(heads, 0, 2, &ranges));
        step.check(&chains, scale(shape));
        // Two key/value heads, and splits: three of the first sequence, one of the second.
        let plan = plan(&chains).unwrap().1;
        assert_eq!((plan.decode, plan.combine, plan.partials), (2 * (3 + 1), 2, 2 * 3));
    }
    air::<bf16>(PLAIN);
    air::<f16>(Shape { head_dim: 128, block_size: 32, ..PLAIN });
    air::<bf16>(Shape { head_dim: 32, block_size: 48, ..PLAIN });
}

/// Chains on different rows of a sequence fill more than one tile. Some rows see one split less than others.
#[test]
fn chains_on_different_rows_share_tiles() {
    let mut step = Step::<f16>::new(16, &[300, 30], PLAIN);
    let chains = [
        step.chain(10, 0, 2, &[(0, 248, 12), (1, 29, 1)]),
        step.chain(2, 0, 2, &[(0, 259, 1)]),
        step.chain(12, 0, 2, &[(0, 250, 3), (1, 20, 10)]),
        // The same heads, grouped otherwise: a stack of its own.
        step.chain(3, 1, 1, &[(0, 255, 2)]),
        step.chain(6, 0, 2, &[(0, 252, 1), (0, 299, 1)]),
    ];
    step.check(&chains, scale(PLAIN));
    let together = step.attend(&chains, 0.125);
    for (chain, together) in chains.into_iter().zip(together) {
        let alone = step.attend(&[chain], 0.125).remove(0);
        assert_eq!(bits(&alone, alone.len(), 0..1), bits(&together, alone.len(), 0..1));
    }
}

/// A thread looks at several stacks to find that of its block.
#[test]
fn more_sequences_than_threads() {
    let lengths: Vec<usize> = (0..300).map(|sequence| 1 + sequence % 7 * 60).collect();
    let shape = Shape { kv_heads: 1, head_dim: 32, ..PLAIN };
    let mut step = Step::<f16>::new(18, &lengths, shape);
    let ranges: Vec<_> = lengths.iter().enumerate().map(|(s, n)| (s, n - 1, 1)).collect();
    let chains = [step.chain(3, 0, 1, &ranges), step.chain(2, 0, 1, &ranges[100..])];
    step.check(&chains, scale(shape));
}

#[test]
fn a_decode_plan_does_not_grow_with_the_sequences() {
    let words = |length: usize| {
        let mut step = Step::<f16>::new(17, &[length], Shape { kv_heads: 1, ..PLAIN });
        let chains = [4, 4].map(|heads| step.chain(heads, 0, 1, &[(0, length - 1, 1)]));
        plan(&chains).unwrap().1.words
    };
    assert_eq!(words(5000), words(5));
}
