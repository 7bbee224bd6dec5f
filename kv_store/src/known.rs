//! The blocks that this handle has seen in the store.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::BlockKey;

/// So many keys are remembered at least. Both sets together take about 10 MB at most.
const REMEMBERED: usize = 65_536;

/// Keys that were written or read lately.
///
/// Least recently used keys go first, in generations: the set `new` takes keys until it is full, then
/// becomes `old`, and the set that was `old` is forgotten. Whatever was used among the last `capacity`
/// different keys is in one of the two. This needs no list through the entries, as an exact order would.
pub(crate) struct KnownBlocks {
    capacity: usize,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    new: HashSet<BlockKey>,
    old: HashSet<BlockKey>,
}

impl KnownBlocks {
    pub(crate) fn new() -> Self {
        Self::with_capacity(REMEMBERED)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { capacity, generations: Mutex::default() }
    }

    /// Remembers `key`.
    pub(crate) fn insert(&self, key: BlockKey) {
        let mut generations = self.lock();
        if !generations.new.insert(key) {
            return;
        }
        generations.old.remove(&key);
        if generations.new.len() >= self.capacity {
            generations.old = std::mem::take(&mut generations.new);
        }
    }

    /// Whether `key` is remembered. Asking is a use.
    pub(crate) fn contains(&self, key: &BlockKey) -> bool {
        let generations = self.lock();
        if generations.new.contains(key) {
            return true;
        }
        let known = generations.old.contains(key);
        drop(generations);
        if known {
            self.insert(*key);
        }
        known
    }

    /// Forgets `keys`, which are not in the store any more.
    pub(crate) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a BlockKey>) {
        let mut generations = self.lock();
        for key in keys {
            generations.new.remove(key);
            generations.old.remove(key);
        }
    }

    /// Forgets all: the store may have lost its blocks.
    pub(crate) fn clear(&self) {
        *self.lock() = Generations::default();
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> BlockKey {
        BlockKey(std::array::from_fn(|at| (i >> (8 * at.min(7))) as u8))
    }

    #[test]
    fn what_was_used_lately_is_remembered_and_the_rest_is_bounded() {
        let known = KnownBlocks::with_capacity(100);
        known.insert(key(1_000_000));
        for i in 0..10_000 {
            known.insert(key(i));
            // Asked for at each step, so it is never the least recently used.
            assert!(known.contains(&key(1_000_000)));
            let generations = known.lock();
            for recent in (i.saturating_sub(98)..=i).map(key) {
                assert!(generations.new.contains(&recent) || generations.old.contains(&recent));
            }
        }
        assert!(!known.contains(&key(0)));
        let generations = known.lock();
        assert!(generations.new.len() + generations.old.len() <= 200);
    }

    #[test]
    fn forgotten_keys_are_unknown() {
        let known = KnownBlocks::with_capacity(2);
        (0..3).for_each(|i| known.insert(key(i)));
        known.forget(&[key(0), key(2)]);
        assert_eq!([0, 1, 2].map(|i| known.contains(&key(i))), [false, true, false]);
        known.clear();
        assert!(!known.contains(&key(1)));
    }
}
