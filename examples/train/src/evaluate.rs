//! Exact-match accuracy on held-out dialogues, per chain count.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor, D};
use serde::{Deserialize, Serialize};

use crate::data::{Conversation, Dialogue, Generator, Part, Stage, Task};
use crate::model::DenseColm;
use crate::tokenizer::Chat;
use crate::train::in_parallel;

/// How many dialogues of one task the models at 1, 2, .. n chains answered exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Dialogues asked.
    pub asked: usize,
    /// Right answers at 1, 2, .. n chains.
    pub right: Vec<usize>,
}

impl Score {
    /// The share of right answers at 1, 2, .. n chains, 0 to 1.
    pub fn accuracy(&self) -> Vec<f64> {
        self.right.iter().map(|&right| right as f64 / self.asked.max(1) as f64).collect()
    }
}

/// Scores by task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The scored tasks.
    pub tasks: BTreeMap<Task, Score>,
}

impl Evaluation {
    /// The accuracy at 1, 2, .. n chains, 0 to 1: the mean over the tasks, each counting the same.
    pub fn accuracy(&self) -> Vec<f64> {
        let mut mean = Vec::new();
        for score in self.tasks.values() {
            mean.resize(score.right.len(), 0.);
            for (mean, share) in mean.iter_mut().zip(score.accuracy()) {
                *mean += share / self.tasks.len() as f64;
            }
        }
        mean
    }
}

/// `per_task` held-out dialogues of every scored task, no prompt twice.
pub fn held_out(seed: u64, per_task: usize) -> Vec<Dialogue> {
    // The last stream but one; training steps count from 0, the tokenizer has the last.
    let mut generator = Generator::new(seed, u64::MAX - 1, Part::HeldOut, Stage::Tables);
    let mut seen = std::collections::HashSet::new();
    let mut dialogues = Vec::new();
    for &task in Task::SCORED {
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
    model: &DenseColm,
    chat: &Chat,
    dialogues: &[Dialogue],
    threads: usize,
) -> Result<Evaluation> {
    let mut by_length: Vec<&Dialogue> = dialogues.iter().collect();
    by_length.sort_by_key(|dialogue| dialogue.prompt.len() + dialogue.answer.len());
    let batches: Vec<_> = by_length.chunks(32).collect();
    let results = in_parallel(threads, &batches, |batch| right_answers(model, chat, batch))?;
    let mut evaluation = Evaluation::default();
    for (batch, rights) in batches.iter().zip(results) {
        for (dialogue, right) in batch.iter().zip(rights) {
            let score = evaluation.tasks.entry(dialogue.task).or_default();
            score.asked += 1;
            score.right.resize(right.len(), 0);
            for (sum, right) in score.right.iter_mut().zip(right) {
                *sum += usize::from(right);
            }
        }
    }
    Ok(evaluation)
}

/// Per dialogue, whether the models at 1, 2, .. n chains answer it exactly.
fn right_answers(model: &DenseColm, chat: &Chat, batch: &[&Dialogue]) -> Result<Vec<Vec<bool>>> {
    let chains = model.config().chains.count();
    let encoded = batch
        .iter()
        .map(|&dialogue| chat.encode(&Conversation { system: None, turns: vec![dialogue.clone()] }))
        .collect::<Result<Vec<_>>>()?;
    let length = encoded.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
    let padded = encoded.iter().flat_map(|sequence| {
        let padding = std::iter::repeat_n(0, length - sequence.ids.len());
        sequence.ids.iter().copied().chain(padding)
    });
    let tokens = Tensor::from_iter(padded, &Device::Cpu)?.reshape((batch.len(), length))?;
    let logits = model.logits_upto(&model.forward(&tokens)?, chains)?;
    let mut rights = vec![vec![false; chains]; batch.len()];
    for (k, logits) in logits.iter().enumerate() {
        let best = logits.argmax(D::Minus1)?.to_vec2::<u32>()?;
        for ((sequence, best), right) in encoded.iter().zip(&best).zip(&mut rights) {
            right[k] = (1..sequence.ids.len())
                .all(|next| !sequence.answer[next] || best[next - 1] == sequence.ids[next]);
        }
    }
    Ok(rights)
}

/// The answer of the model at `k` chains to one prompt: greedy decoding, at most `max_tokens`
/// tokens, everything computed anew for each.
pub fn answer(
    model: &DenseColm,
    chat: &Chat,
    prompt: &str,
    k: usize,
    max_tokens: usize,
) -> Result<String> {
    let mut ids = chat.prompt(prompt)?;
    let start = ids.len();
    while ids.len() < start + max_tokens {
        let tokens = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let last = model.forward(&tokens)?.narrow(1, ids.len() - 1, 1)?;
        let best = model.logits_at(&last, k)?.flatten_all()?.argmax(0)?.to_scalar::<u32>()?;
        if best == Chat::END_ID {
            break;
        }
        ids.push(best);
    }
    chat.text(&ids[start..])
}
