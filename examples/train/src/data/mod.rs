//! Generated dialogues with answers that can be checked.

mod tasks;
mod words;

use std::hash::Hasher;

use fnv::FnvHasher;
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use tasks::Task;

/// A question and its only correct answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// The user's message.
    pub prompt: String,
    /// The exact text of the assistant's answer.
    pub answer: String,
    /// The task that it belongs to.
    pub task: Task,
}

/// The split of all possible prompts into training and held-out data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSplit {
    /// Prompts for training.
    Train,
    /// Prompts that are never used in training: one in sixteen.
    HeldOut,
}

impl DataSplit {
    /// The split of a prompt. A hash of the prompt decides, so that the splits are disjoint for every seed.
    pub fn of(prompt: &str) -> Self {
        if hash(prompt.as_bytes()).is_multiple_of(16) {
            Self::HeldOut
        } else {
            Self::Train
        }
    }
}

/// FNV-1a followed by a round of mixing: the same on every machine and in every release of Rust.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    let hash = hasher.finish();
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// The frequencies of the tasks: a task occurs in the list as many times as its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<Task>);

impl Mix {
    /// The mix for training, restricted to `tasks`. Tasks that take longer to learn occur more often. With all tasks,
    /// about half are tables to memorize (divide, remainder, weekday, month, letter), which need the capacity of later
    /// chains.
    pub fn of(tasks: &[Task]) -> Self {
        Self::weighted(tasks, Task::weight)
    }

    /// The mix for training a tokenizer: more numbers, no tables.
    pub fn of_vocabulary() -> Self {
        Self::weighted(Task::SCORED, Task::weight_in_vocabulary)
    }

    fn weighted(tasks: &[Task], weight: impl Fn(Task) -> usize) -> Self {
        // In the order of `SCORED`, so that the order of `tasks` has no effect.
        let listed = Task::SCORED.iter().filter(|task| tasks.contains(task));
        Self(listed.flat_map(|&task| std::iter::repeat_n(task, weight(task))).collect())
    }
}

/// A conversation: an optional system message and the turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The system message, if any. It has no effect on the answers.
    pub system: Option<&'static str>,
    /// The turns, oldest first.
    pub turns: Vec<Dialogue>,
}

/// A reproducible, unlimited source of dialogues.
pub struct Generator {
    rng: ChaCha8Rng,
    split: DataSplit,
    mix: Mix,
}

impl Generator {
    /// `stream` selects one of 2^64 independent sequences of the seed, so that each training step can have its own.
    pub fn new(seed: u64, stream: u64, split: DataSplit, mix: Mix) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng, split, mix }
    }

    /// The next dialogue of `task` from this generator's split.
    pub fn dialogue(&mut self, task: Task) -> Dialogue {
        loop {
            let dialogue = task.draw(&mut self.rng);
            // Small talk has too few prompts to hold some out, and is not scored.
            if task == Task::SmallTalk || DataSplit::of(&dialogue.prompt) == self.split {
                return dialogue;
            }
        }
    }

    /// The next dialogue, of a task drawn from the mix.
    ///
    /// # Panics
    /// If the mix is empty.
    pub fn scored(&mut self) -> Dialogue {
        let drawn = self.rng.random_range(0..self.mix.0.len() as u32);
        self.dialogue(self.mix.0[drawn as usize])
    }

    /// The next conversation: mostly one turn, at most four.
    pub fn conversation(&mut self) -> Conversation {
        let turns = match self.rng.random_range(0..10) {
            0..=6 => 1,
            7..=8 => 2,
            _ => self.rng.random_range(3..=4),
        };
        let system = self.rng.random_ratio(1, 20).then(|| tasks::system_message(&mut self.rng));
        let mut conversation = Conversation { system, turns: Vec::new() };
        for _ in 0..turns {
            if self.rng.random_ratio(1, 30) {
                conversation.turns.extend(tasks::small_talk(&mut self.rng));
            } else {
                let dialogue = self.scored();
                conversation.turns.push(dialogue);
            }
        }
        conversation
    }
}
