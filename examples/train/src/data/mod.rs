//! Dialogues with answers that can be checked, generated from a seed.

mod tasks;
mod words;

use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use tasks::Task;

/// One question and its only right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// What the user says.
    pub prompt: String,
    /// What the assistant must say, character by character.
    pub answer: String,
    /// The generator that made it.
    pub task: Task,
}

/// Which half of all possible prompts a dialogue is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Seen in training.
    Train,
    /// Never seen in training: one prompt in sixteen.
    HeldOut,
}

impl Part {
    /// The prompt's own hash decides, so no prompt can stand on both sides, whatever the seed.
    pub fn of(prompt: &str) -> Self {
        match hash(prompt.as_bytes()) % 16 {
            0 => Self::HeldOut,
            _ => Self::Train,
        }
    }
}

/// FNV-1a, then one round of mixing: the same on every machine and in every release of Rust.
fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// How often each task is drawn: every task as many times as its weight says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<Task>);

impl Mix {
    /// What models are trained on, of `tasks` only: those that take longer to learn come more
    /// often, and of all tasks about half are tables to be learned by heart (divide, remainder,
    /// weekday, month, letter). They ask for memory, which the chains above the first have to give.
    pub fn of(tasks: &[Task]) -> Self {
        Self::weighted(tasks, Task::weight)
    }

    /// What vocabularies are learned from: numbers more often, no tables.
    pub fn of_vocabulary() -> Self {
        Self::weighted(Task::SCORED, Task::weight_in_vocabulary)
    }

    fn weighted(tasks: &[Task], weight: impl Fn(Task) -> usize) -> Self {
        // In the order of `SCORED`, however the tasks are listed: the same tasks, the same draws.
        let listed = Task::SCORED.iter().filter(|task| tasks.contains(task));
        Self(listed.flat_map(|&task| std::iter::repeat_n(task, weight(task))).collect())
    }
}

/// What came before the first user turn, and the turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// A system message, now and then; it never changes an answer.
    pub system: Option<&'static str>,
    /// The turns, oldest first.
    pub turns: Vec<Dialogue>,
}

/// An endless, reproducible source of dialogues.
pub struct Generator {
    rng: ChaCha8Rng,
    part: Part,
    mix: Mix,
}

impl Generator {
    /// `stream` selects one of 2^64 independent sequences of the same seed, so that a step of the
    /// training can be repeated without those before it.
    pub fn new(seed: u64, stream: u64, part: Part, mix: Mix) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng, part, mix }
    }

    /// The next dialogue of `task`, of this generator's part.
    pub fn dialogue(&mut self, task: Task) -> Dialogue {
        loop {
            let dialogue = task.draw(&mut self.rng);
            // Small talk has too few prompts to hold any out; it is not scored.
            if task == Task::SmallTalk || Part::of(&dialogue.prompt) == self.part {
                return dialogue;
            }
        }
    }

    /// The next dialogue of any task of the mix.
    ///
    /// # Panics
    /// If the mix has no task.
    pub fn scored(&mut self) -> Dialogue {
        let drawn = self.rng.random_range(0..self.mix.0.len() as u32);
        self.dialogue(self.mix.0[drawn as usize])
    }

    /// The next conversation: mostly one turn, sometimes up to four.
    pub fn conversation(&mut self) -> Conversation {
        let turns = match self.rng.random_range(0..10) {
            0..=6 => 1,
            7..=8 => 2,
            _ => self.rng.random_range(3..=4),
        };
        let system = self.rng.random_ratio(1, 20).then(|| tasks::system(&mut self.rng));
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
