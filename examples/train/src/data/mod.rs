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

/// A stage of the training: how often each task is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Numbers more often; no tables.
    Numbers,
    /// Lists and told facts more often: what takes longer to learn; no tables.
    Lists,
    /// Half of all: tables to be learned by heart (division, remainders, weekdays, months,
    /// letters). They ask for memory, which the chains above the first have to give.
    Tables,
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
    /// The stage's tasks, each as often as its weight says.
    tickets: Vec<Task>,
}

impl Generator {
    /// `stream` selects one of 2^64 independent sequences of the same seed, so that a step of the
    /// training can be repeated without those before it.
    pub fn new(seed: u64, stream: u64, part: Part, stage: Stage) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let weighted = |&task: &Task| std::iter::repeat_n(task, task.weight(stage));
        let tickets = Task::SCORED.iter().flat_map(weighted).collect();
        Self { rng, part, tickets }
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

    /// The next dialogue of any scored task, the harder ones more often.
    pub fn scored(&mut self) -> Dialogue {
        let drawn = self.rng.random_range(0..self.tickets.len() as u32);
        self.dialogue(self.tickets[drawn as usize])
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
