//! Exact-match accuracy on held-out dialogues, per chain count.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor, D};
use candle_nn::ops::log_softmax;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::chain_model::ChainModel;
use crate::data::{Conversation, Dialogue, Generator, Mix, Part, Task};
use crate::parallel::in_parallel;
use crate::tokenizer::Chat;

/// How the models at 1, 2, .. n chains did on the dialogues of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Dialogues asked.
    pub asked: usize,
    /// Exactly right answers at 1, 2, .. n chains.
    pub right: Vec<usize>,
    /// Tokens of the expected answers.
    #[serde(default)]
    pub tokens: usize,
    /// The cross-entropy at 1, 2, .. n chains, summed over these tokens, in nats.
    #[serde(default)]
    pub nats: Vec<f64>,
}

impl Score {
    /// The share of right answers at 1, 2, .. n chains, 0 to 1.
    pub fn accuracy(&self) -> Vec<f64> {
        self.right.iter().map(|&right| right as f64 / self.asked.max(1) as f64).collect()
    }

    /// The mean cross-entropy per token at 1, 2, .. n chains, in nats.
    pub fn loss(&self) -> Vec<f64> {
        self.nats.iter().map(|nats| nats / self.tokens.max(1) as f64).collect()
    }

    fn add(&mut self, answer: &Answer) {
        self.asked += 1;
        self.tokens += answer.tokens;
        self.right.resize(answer.right.len(), 0);
        self.nats.resize(answer.nats.len(), 0.);
        for (sum, &right) in self.right.iter_mut().zip(&answer.right) {
            *sum += usize::from(right);
        }
        for (sum, nats) in self.nats.iter_mut().zip(&answer.nats) {
            *sum += nats;
        }
    }
}

/// Scores by task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The scored tasks.
    pub tasks: BTreeMap<Task, Score>,
}

impl Evaluation {
    /// The accuracy at 1, 2, .. n chains, 0 to 1: the mean over the tasks, each counting the same.
    pub fn accuracy(&self) -> Vec<f64> {
        self.mean(Score::accuracy)
    }

    /// The cross-entropy per token at 1, 2, .. n chains, in nats: the mean over the tasks.
    pub fn loss(&self) -> Vec<f64> {
        self.mean(Score::loss)
    }

    /// The scores of `tasks` only.
    pub fn of(&self, tasks: &[Task]) -> Self {
        let listed = self.tasks.iter().filter(|(task, _)| tasks.contains(task));
        Self { tasks: listed.map(|(&task, score)| (task, score.clone())).collect() }
    }

    fn mean(&self, of: impl Fn(&Score) -> Vec<f64>) -> Vec<f64> {
        let mut mean = Vec::new();
        for score in self.tasks.values() {
            let values = of(score);
            mean.resize(values.len(), 0.);
            for (mean, value) in mean.iter_mut().zip(values) {
                *mean += value / self.tasks.len() as f64;
            }
        }
        mean
    }
}

/// `per_task` held-out dialogues of every scored task, no prompt twice.
pub fn held_out(seed: u64, per_task: usize) -> Vec<Dialogue> {
    held_out_of(Task::SCORED, seed, per_task)
}

/// `per_task` held-out dialogues of each of `tasks`, no prompt twice.
pub fn held_out_of(tasks: &[Task], seed: u64, per_task: usize) -> Vec<Dialogue> {
    // The last stream but one; training steps count from 0, the tokenizer has the last.
    let mix = Mix::of(Task::SCORED);
    let mut generator = Generator::new(seed, u64::MAX - 1, Part::HeldOut, mix);
    let mut seen = std::collections::HashSet::new();
    let mut dialogues = Vec::new();
    for &task in tasks {
        // A small task may have fewer prompts than asked for: stop after enough repetitions.
        let mut repeated = 0;
        let mut found = 0;
        while found < per_task && repeated < 20 * per_task {
            let dialogue = generator.dialogue(task);
            if seen.insert(dialogue.prompt.clone()) {
                dialogues.push(dialogue);
                found += 1;
            } else {
                repeated += 1;
            }
        }
    }
    dialogues
}

/// Asks every dialogue of the models at 1 to n chains.
///
/// Greedy decoding gives the expected answer exactly if, with the expected answer as context, the
/// highest logit at each of its positions (the end of turn included) is the expected token. So one
/// forward pass over prompt and answer decides it, for every chain count.
pub fn evaluate(
    model: &ChainModel,
    chat: &Chat,
    dialogues: &[Dialogue],
    threads: usize,
) -> Result<Evaluation> {
    let mut by_length: Vec<&Dialogue> = dialogues.iter().collect();
    by_length.sort_by_key(|dialogue| dialogue.prompt.len() + dialogue.answer.len());
    let batches: Vec<_> = by_length.chunks(32).collect();
    let results = in_parallel(threads, &batches, |batch| answers(model, chat, batch))?;
    let mut evaluation = Evaluation::default();
    for (dialogue, answer) in by_length.iter().zip(results.iter().flatten()) {
        evaluation.tasks.entry(dialogue.task).or_default().add(answer);
    }
    Ok(evaluation)
}

/// How the models at 1, 2, .. n chains did on one dialogue.
struct Answer {
    /// Tokens of the expected answer.
    tokens: usize,
    /// Whether each of them has the highest logit.
    right: Vec<bool>,
    /// Their cross-entropy, summed.
    nats: Vec<f64>,
}

fn answers(model: &ChainModel, chat: &Chat, batch: &[&Dialogue]) -> Result<Vec<Answer>> {
    let encoded = batch
        .iter()
        .map(|&dialogue| chat.encode(&Conversation { system: None, turns: vec![dialogue.clone()] }))
        .collect::<Result<Vec<_>>>()?;
    let batch = Batch::new(&encoded)?;
    let expected = batch.targets().to_vec1::<u32>()?;
    let tokens = encoded.iter().map(|sequence| sequence.answer.iter().filter(|&&of| of).count());
    let mut answers: Vec<Answer> =
        tokens.map(|tokens| Answer { tokens, right: vec![], nats: vec![] }).collect();
    for logits in batch.logits(model)? {
        let best = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let chances = log_softmax(&logits, D::Minus1)?;
        let chances = chances.gather(&batch.targets().unsqueeze(1)?, 1)?.flatten_all()?;
        let chances = chances.to_vec1::<f32>()?;
        let mut row = 0;
        for answer in &mut answers {
            let rows = row..row + answer.tokens;
            answer.right.push(best[rows.clone()] == expected[rows.clone()]);
            answer.nats.push(chances[rows].iter().map(|&chance| -f64::from(chance)).sum());
            row += answer.tokens;
        }
    }
    Ok(answers)
}

/// The answer of the model at `k` chains to one prompt: greedy decoding, at most `max_tokens`
/// tokens, everything computed anew for each.
///
/// # Panics
/// If the model has no `k` chains, or `k` is 0.
pub fn answer(
    model: &ChainModel,
    chat: &Chat,
    prompt: &str,
    k: usize,
    max_tokens: usize,
) -> Result<String> {
    let mut ids = chat.prompt(prompt)?;
    let start = ids.len();
    while ids.len() < start + max_tokens {
        let tokens = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let z = model.forward(&tokens)?;
        let last = z[..k].iter().map(|z| z.narrow(0, ids.len() - 1, 1));
        let logits = model.logits(&last.collect::<Result<Vec<_>, _>>()?)?;
        let best = logits[k - 1].flatten_all()?.argmax(0)?.to_scalar::<u32>()?;
        if best == Chat::END_ID {
            break;
        }
        ids.push(best);
    }
    chat.text(&ids[start..])
}
