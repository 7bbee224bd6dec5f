//! The blocks that this handle has seen in the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::BlockKey;

/// The least number of keys that are remembered. Both maps together take about 12 MB at most.
const REMEMBERED: usize = 65_536;

/// Keys that were written or read lately.
///
/// Each has the number of its last insertion. Whoever looks into the store takes a [`Mark`] before, so that it forgets
/// no key that was written while it looked.
///
/// Least recently used keys go first, in generations: the map `new` takes keys until it is full, then
/// becomes `old`, and the map that was `old` is forgotten. Whatever was used among the last `capacity`
/// different keys is in one of the two. This needs no list through the entries, as an exact order would.
pub(crate) struct KnownBlocks {
    capacity: usize,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    new: HashMap<BlockKey, u64>,
    old: HashMap<BlockKey, u64>,
    /// Insertions so far.
    insertions: u64,
}

/// A moment: after the insertions up to this number.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

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
        generations.insertions += 1;
        let number = generations.insertions;
        generations.put(key, number, self.capacity);
    }

    /// This moment.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.lock().insertions)
    }

    /// Whether `key` is remembered. Asking is a use.
    pub(crate) fn contains(&self, key: &BlockKey) -> bool {
        let mut generations = self.lock();
        if generations.new.contains_key(key) {
            return true;
        }
        // Under the same lock, so that a key that is forgotten meanwhile does not come back.
        let Some(number) = generations.old.get(key).copied() else {
            return false;
        };
        generations.put(*key, number, self.capacity);
        true
    }

    /// Forgets `keys`, which are not in the store any more.
    pub(crate) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a BlockKey>) {
        let mut generations = self.lock();
        for key in keys {
            generations.new.remove(key);
            generations.old.remove(key);
        }
    }

    /// Forgets `keys`, which were not in the store when it was looked into after `mark`. Those that were inserted since
    /// then have been written meanwhile.
    pub(crate) fn forget_before<'a>(
        &self,
        mark: Mark,
        keys: impl IntoIterator<Item = &'a BlockKey>,
    ) {
        let mut generations = self.lock();
        let Generations { new, old, .. } = &mut *generations;
        for key in keys {
            for generation in [&mut *new, &mut *old] {
                if generation.get(key).is_some_and(|number| *number <= mark.0) {
                    generation.remove(key);
                }
            }
        }
    }

    /// Forgets all: the store may have lost its blocks.
    pub(crate) fn clear(&self) {
        let mut generations = self.lock();
        generations.new.clear();
        generations.old.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn put(&mut self, key: BlockKey, number: u64, capacity: usize) {
        if self.new.insert(key, number).is_some() {
            return;
        }
        self.old.remove(&key);
        if self.new.len() >= capacity {
            self.old = std::mem::take(&mut self.new);
        }
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
                assert!(
                    generations.new.contains_key(&recent) || generations.old.contains_key(&recent)
                );
            }
        }
        assert!(!known.contains(&key(0)));
        let generations = known.lock();
        assert!(generations.new.len() + generations.old.len() <= 200);
    }

    #[test]
    fn what_was_inserted_after_the_mark_is_not_forgotten() {
        let known = KnownBlocks::with_capacity(100);
        (0..3).for_each(|i| known.insert(key(i)));
        let mark = known.mark();
        // Asking is no insertion, and inserting again is one.
        assert!(known.contains(&key(0)));
        known.insert(key(1));
        known.insert(key(3));
        known.forget_before(mark, &[0, 1, 2, 3].map(key));
        assert_eq!([0, 1, 2, 3].map(|i| known.contains(&key(i))), [false, true, false, true]);
    }

    #[test]
    fn asking_does_not_bring_a_forgotten_key_back() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        let (known, done) = (&KnownBlocks::with_capacity(64), &AtomicBool::new(false));
        let keys = &std::array::from_fn::<_, 64, _>(key);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    for key in keys {
                        known.contains(key);
                    }
                }
            });
            let came_back = (0..2_000).any(|_| {
                // All of them are old, until the other thread asks for them.
                keys.iter().for_each(|key| known.insert(*key));
                std::thread::yield_now();
                known.forget(keys);
                std::thread::yield_now();
                keys.iter().any(|key| known.contains(key))
            });
            done.store(true, SeqCst);
            assert!(!came_back);
        });
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
