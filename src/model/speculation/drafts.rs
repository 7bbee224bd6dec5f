//! The drafts of one sequence: which are accepted, and how many to make next.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::DecodeRow;

/// The longest pause, in rows, after drafts that were all rejected.
const MAX_PAUSE: usize = 32;

/// The drafts of one sequence.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    /// The position of the first pending draft, and the chain count that computed the logits.
    position: usize,
    chain_count: usize,
    /// Drafted tokens that are neither accepted nor rejected, the next one first, each with the logits after it.
    pending: VecDeque<(u32, Tensor)>,
    /// How many tokens were drafted last, and how many of them were accepted.
    drafted: usize,
    accepted: usize,
    /// How many more rows are computed without drafts, and the length of the last such pause. It grows each time that
    /// all drafts are rejected.
    pause: usize,
    last_pause: usize,
}

impl Drafts {
    /// Accepts `row` if it is the next draft, and returns the logits after it. Otherwise the pending drafts are rejected.
    pub(super) fn accept(&mut self, row: &DecodeRow) -> Option<Tensor> {
        let (token, _) = self.pending.front()?;
        let expected = (*token, self.position, self.chain_count);
        if (row.token, row.position, row.chain_count) != expected {
            self.pending.clear();
            return None;
        }
        self.position += 1;
        self.accepted += 1;
        self.pending.pop_front().map(|(_, logits)| logits)
    }

    /// How many tokens to draft next: twice as many as were accepted if all were, as many as were accepted if only
    /// some were, and none for a while if all were rejected.
    pub(super) fn next_length(&mut self, max_drafts: usize) -> usize {
        if self.pause > 0 {
            self.pause -= 1;
            return 0;
        }
        let (drafted, accepted) = (self.drafted, self.accepted);
        (self.drafted, self.accepted) = (0, 0);
        if drafted == 0 {
            return max_drafts.min(2);
        }
        if accepted == 0 {
            self.last_pause = (2 * self.last_pause).clamp(1, MAX_PAUSE);
            self.pause = self.last_pause - 1;
            return 0;
        }
        self.last_pause = 0;
        if accepted == drafted {
            max_drafts.min(2 * accepted)
        } else {
            accepted
        }
    }

    /// Keeps `drafted`, the tokens after `row`, with the logits after each. Nothing may be pending.
    pub(super) fn keep(&mut self, row: &DecodeRow, drafted: Vec<(u32, Tensor)>) {
        if drafted.is_empty() {
            return; // The next number of drafts depends on the last ones.
        }
        (self.position, self.chain_count) = (row.position + 1, row.chain_count);
        (self.drafted, self.accepted) = (drafted.len(), 0);
        self.pending = drafted.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(drafted: usize, accepted: usize, drafts: &mut Drafts) -> usize {
        (drafts.drafted, drafts.accepted) = (drafted, accepted);
        drafts.next_length(8)
    }

    #[test]
    fn drafts_get_longer_while_all_are_accepted_and_shorter_otherwise() {
        let mut drafts = Drafts::default();
        assert_eq!(drafts.next_length(8), 2);
        assert_eq!(after(2, 2, &mut drafts), 4);
        assert_eq!(after(4, 4, &mut drafts), 8);
        assert_eq!(after(8, 8, &mut drafts), 8);
        assert_eq!(after(8, 3, &mut drafts), 3);
        assert_eq!(after(3, 1, &mut drafts), 1);
        assert_eq!(Drafts::default().next_length(1), 1);
    }

    #[test]
    fn rejected_drafts_are_followed_by_ever_longer_pauses() {
        let mut drafts = Drafts::default();
        let mut rows = 0;
        let mut drafted = Vec::new();
        while drafted.len() < 8 {
            let length = drafts.next_length(8);
            if length > 0 {
                drafted.push(rows);
            }
            // All are rejected.
            (drafts.drafted, drafts.accepted) = (length, 0);
            rows += 1;
        }
        let gaps: Vec<usize> = drafted.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [2, 3, 5, 9, 17, 33, 33]);
    }
}
