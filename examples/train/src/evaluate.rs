//! Exact-match accuracy and loss on held-out dialogues, by chain count.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor, D};
use candle_nn::ops::log_softmax;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::chain_model::ChainModel;
use crate::data::{Conversation, DataSplit, Dialogue, Generator, Mix, Task};
use crate::parallel::in_parallel;
use crate::tokenizer::ChatTokenizer;

/// The scores of one task at 1, 2, .. n chains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The number of dialogues.
    pub prompts: usize,
    /// The number of exactly correct answers at 1, 2, .. n chains.
    pub correct: Vec<usize>,
    /// The number of tokens in the expected answers.
    #[serde(default)]
    pub tokens: usize,
    /// The cross-entropy at 1, 2, .. n chains, summed over these tokens, in nats.
    #[serde(default)]
    pub loss_sums: Vec<f64>,
}

impl Score {
    /// The share of correct answers at 1, 2, .. n chains, from 0 to 1.
    pub fn accuracy(&self) -> Vec<f64> {
        self.correct.iter().map(|&correct| correct as f64 / self.prompts.max(1) as f64).collect()
    }

    /// The mean cross-entropy per token at 1, 2, .. n chains, in nats.
    pub fn loss(&self) -> Vec<f64> {
        self.loss_sums.iter().map(|sum| sum / self.tokens.max(1) as f64).collect()
    }

    fn add(&mut self, answer: &Answer) {
        self.prompts += 1;
        self.tokens += answer.tokens;
        self.correct.resize(answer.correct.len(), 0);
        self.loss_sums.resize(answer.loss_sums.len(), 0.);
        for (sum, &correct) in self.correct.iter_mut().zip(&answer.correct) {
            *sum += usize::from(correct);
        }
        for (sum, loss) in self.loss_sums.iter_mut().zip(&answer.loss_sums) {
            *sum += loss;
        }
    }
}

/// The scores of an evaluation by task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The scored tasks.
    pub tasks: BTreeMap<Task, Score>,
}

impl Evaluation {
    /// The accuracy at 1, 2, .. n chains, from 0 to 1: the unweighted mean over the tasks.
    pub fn accuracy(&self) -> Vec<f64> {
        self.mean(Score::accuracy)
    }

    /// The cross-entropy per token at 1, 2, .. n chains, in nats: the unweighted mean over the tasks.
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

/// `per_task` held-out dialogues of every scored task, without repeated prompts. Small tasks have fewer.
pub fn held_out(seed: u64, per_task: usize) -> Vec<Dialogue> {
    held_out_of(Task::SCORED, seed, per_task)
}

/// `per_task` held-out dialogues of each of `tasks`, without repeated prompts. Small tasks have fewer.
pub fn held_out_of(tasks: &[Task], seed: u64, per_task: usize) -> Vec<Dialogue> {
    // A stream that training does not use: its steps are streams 0, 1, .., and the tokenizer has the last stream.
    let mix = Mix::of(Task::SCORED);
    let mut generator = Generator::new(seed, u64::MAX - 1, DataSplit::HeldOut, mix);
    let mut seen = std::collections::HashSet::new();
    let mut dialogues = Vec::new();
    for &task in tasks {
        // A small task may have fewer prompts than `per_task`: stop after many repetitions.
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

/// Scores the models at 1 to n chains on `dialogues`.
///
/// Greedy decoding generates exactly the expected answer if and only if the expected token has the highest logit at
/// each position of the answer, including the end of the turn, given the expected tokens before it. So one forward pass
/// over prompt and answer is enough for all chain counts.
pub fn evaluate(
    model: &ChainModel,
    chat: &ChatTokenizer,
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

/// The scores of one dialogue at 1, 2, .. n chains.
struct Answer {
    /// The number of tokens in the expected answer.
    tokens: usize,
    /// Whether every token of the answer has the highest logit.
    correct: Vec<bool>,
    /// The cross-entropy summed over the answer, in nats.
    loss_sums: Vec<f64>,
}

fn answers(model: &ChainModel, chat: &ChatTokenizer, batch: &[&Dialogue]) -> Result<Vec<Answer>> {
    let encoded = batch
        .iter()
        .map(|&dialogue| chat.encode(&Conversation { system: None, turns: vec![dialogue.clone()] }))
        .collect::<Result<Vec<_>>>()?;
    let batch = Batch::new(&encoded)?;
    let expected = batch.targets().to_vec1::<u32>()?;
    let tokens = encoded.iter().map(|sequence| sequence.is_answer.iter().filter(|&&of| of).count());
    let mut answers: Vec<Answer> =
        tokens.map(|tokens| Answer { tokens, correct: vec![], loss_sums: vec![] }).collect();
    for logits in batch.logits(model)? {
        let best = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let logprobs = log_softmax(&logits, D::Minus1)?;
        let logprobs = logprobs.gather(&batch.targets().unsqueeze(1)?, 1)?.flatten_all()?;
        let logprobs = logprobs.to_vec1::<f32>()?;
        let mut row = 0;
        for answer in &mut answers {
            let rows = row..row + answer.tokens;
            answer.correct.push(best[rows.clone()] == expected[rows.clone()]);
            let losses = logprobs[rows].iter().map(|&logprob| -f64::from(logprob));
            answer.loss_sums.push(losses.sum());
            row += answer.tokens;
        }
    }
    Ok(answers)
}

/// The answer of the model at `k` chains to a prompt: greedy decoding of at most `max_tokens` tokens, without KV cache.
///
/// # Panics
/// If the model has no `k` chains, or `k` is 0.
pub fn answer(
    model: &ChainModel,
    chat: &ChatTokenizer,
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
        if best == ChatTokenizer::END_ID {
            break;
        }
        ids.push(best);
    }
    chat.text(&ids[start..])
}
