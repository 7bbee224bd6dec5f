//! When a block counts as used.

use std::time::{Duration, SystemTime};

/// Within a prompt, each block counts as used this much earlier than the block before it.
///
/// The first blocks of a prompt are written and read first, and the others are of no use without them. So they must be
/// deleted last. In prefill, a block is computed in less than this time, so that a later block counts as used earlier. In
/// decoding under load it can take longer; then the order is lost. A later turn of a conversation is often written while
/// the blocks before it are found in memory, and so do not count as used again; with a much smaller step it would outlive
/// them. The price: the end of a long prompt counts as minutes older than it is, and a store that is written anew in less
/// time deletes it first.
const STEP: Duration = Duration::from_secs(2);

/// The time of use of the block at `index` of a prompt that is used now.
pub(crate) fn time_of_use(index: usize) -> SystemTime {
    before(SystemTime::now(), index)
}

fn before(now: SystemTime, index: usize) -> SystemTime {
    let steps = u32::try_from(index).unwrap_or(u32::MAX);
    // File systems need not support times before the epoch.
    let used = now.checked_sub(STEP.saturating_mul(steps));
    used.unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_blocks_were_used_earlier_but_not_before_the_epoch() {
        let now = SystemTime::now();
        assert_eq!(before(now, 0), now);
        assert_eq!(before(now, 3), now - 3 * STEP);
        for index in [1 << 31, usize::MAX] {
            assert_eq!(before(now, index), SystemTime::UNIX_EPOCH);
        }
    }
}
