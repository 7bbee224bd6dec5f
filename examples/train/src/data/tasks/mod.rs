//! The tasks. Each draws a prompt in one of several phrasings and computes the answer.

mod arithmetic;
mod facts;
mod number_lists;
mod phrases;
mod sequences;
mod small_talk;
mod task;
mod word_lists;

use rand_chacha::ChaCha8Rng;

pub(super) use self::small_talk::{small_talk, system_message};
pub use self::task::Task;
use super::Dialogue;

/// A prompt and its answer.
type Question = (String, String);

impl Task {
    /// A random dialogue of this kind.
    pub(super) fn draw(self, rng: &mut ChaCha8Rng) -> Dialogue {
        let (prompt, answer) = match self {
            Self::Add => arithmetic::add(rng),
            Self::Subtract => arithmetic::subtract(rng),
            Self::Multiply => arithmetic::multiply(rng),
            Self::Story => arithmetic::story(rng),
            Self::Continue => number_lists::continue_sequence(rng),
            Self::Compare => number_lists::compare(rng),
            Self::Extreme => number_lists::extreme(rng),
            Self::Sort => number_lists::sort(rng),
            Self::Copy => word_lists::copy(rng),
            Self::Reverse => word_lists::reverse(rng),
            Self::Pick => word_lists::pick(rng),
            Self::Count => word_lists::count(rng),
            Self::Recall => facts::recall(rng),
            Self::Lookup => facts::lookup(rng),
            Self::Divide => arithmetic::divide(rng),
            Self::Remainder => arithmetic::remainder(rng),
            Self::Weekday => sequences::weekday(rng),
            Self::Month => sequences::month(rng),
            Self::Letter => sequences::letter(rng),
            Self::SmallTalk => return small_talk(rng).swap_remove(0),
        };
        Dialogue { prompt, answer, task: self }
    }
}
