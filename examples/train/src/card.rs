//! The model card: architecture, accuracy, data and training of a checkpoint.

use std::fmt::Write;

use colm_checkpoint::{Architecture, ColmConfig};

use crate::data::{DataSplit, Generator, Mix, Task};
use crate::evaluate::Evaluation;
use crate::recipe::{Loss, Recipe};

/// The contents of a model card.
pub struct Card<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The model's config.
    pub config: &'a ColmConfig,
    /// How it was trained.
    pub recipe: &'a Recipe,
    /// The checkpoint that training started from; `None` for random weights.
    pub base: Option<&'a str>,
    /// The evaluation of the stored weights on held-out prompts.
    pub evaluation: &'a Evaluation,
    /// The dtype of the stored weights.
    pub dtype: &'a str,
}

impl Card<'_> {
    /// The text of a README.md beside the weights.
    pub fn text(&self) -> String {
        [self.introduction(), self.chains(), self.accuracy(), self.data(), self.training()]
            .join("\n")
    }

    fn introduction(&self) -> String {
        let (tags, architecture) = match self.config.architecture {
            Architecture::Colm => ("colm", "CoLM"),
            Architecture::ColmAir => ("colm, colm-air", "CoLM-Air"),
        };
        let weights = weights_at(self.config, self.config.chains.count());
        format!(
            "---\nlicense: apache-2.0\nlanguage: en\nlibrary_name: colm\npipeline_tag: text-generation\n\
             tags: [{tags}]\nwidget:\n{}---\n# {}\n\n\
             A {architecture} (arXiv 2505.11820) with chains {:?}: one checkpoint of {:.1} million \
             weights that contains {} models. The model at k chains needs the first k weight files \
             only.\n\nIt answers short English questions of the tasks below, whose answers can be \
             checked. It serves for tests and demonstrations and has no other abilities.\n",
            self.widget(),
            self.name,
            self.config.file.chains,
            weights as f64 / 1e6,
            self.config.chains.count(),
        )
    }

    /// Weights and KV cache size at every k.
    fn chains(&self) -> String {
        let owners = match self.config.architecture {
            Architecture::Colm => "Each chain has its own key/value heads.",
            Architecture::ColmAir => "All chains share the key/value heads of chain 1.",
        };
        let mut text = format!(
            "## Chains\n\n{owners} KV cache size of one token in f16, over all layers:\n\n\
             | k | weights | key/value heads | KV cache, bytes per token |\n\
             | ---: | ---: | ---: | ---: |\n"
        );
        for k in 1..=self.config.chains.count() {
            let heads = self.config.kv_heads.first(k);
            let bytes = kv_bytes_per_token(self.config, k);
            let _ = writeln!(text, "| {k} | {} | {heads} | {bytes} |", weights_at(self.config, k));
        }
        text
    }

    fn accuracy(&self) -> String {
        let overall = self.evaluation.accuracy();
        let prompts: usize = self.evaluation.tasks.values().map(|score| score.prompts).sum();
        let header: String = (1..=overall.len()).map(|k| format!(" k = {k} |")).collect();
        let rule = " ---: |".repeat(overall.len() + 1);
        let row = |shares: &[f64]| -> String {
            shares.iter().map(|share| format!(" {:.1} |", 100. * share)).collect()
        };
        let mut text = format!(
            "## Accuracy\n\nExact match in percent on {prompts} held-out prompts, greedy decoding, \
             the stored (rounded) weights. No held-out prompt occurs in training: a hash of the \
             prompt assigns it to the training set or the held-out set.\n\n\
             | task | prompts |{header}\n| --- |{rule}\n"
        );
        for (task, score) in &self.evaluation.tasks {
            let shares = row(&score.accuracy());
            let _ = writeln!(text, "| {} | {} |{shares}", task.name(), score.prompts);
        }
        let _ = writeln!(text, "| **mean of the tasks** | {prompts} |{}", row(&overall));
        text
    }

    /// A held-out example of each task: task, prompt and answer.
    fn examples(&self) -> Vec<(Task, String, String)> {
        let (seed, mix) = (self.recipe.seed, Mix::of(Task::SCORED));
        let mut generator = Generator::new(seed, u64::MAX - 2, DataSplit::HeldOut, mix);
        let examples = self.recipe.tasks.iter().map(|&task| {
            let dialogue = generator.dialogue(task);
            (task, dialogue.prompt, dialogue.answer)
        });
        examples.collect()
    }

    /// The first examples, as the prompts that `colm run` suggests.
    fn widget(&self) -> String {
        let prompts = self.examples().into_iter().take(3);
        prompts.map(|(_, prompt, _)| format!("  - text: {prompt:?}\n")).collect()
    }

    fn data(&self) -> String {
        let mut text = String::from(
            "## Data\n\nGenerated from a seed during training, with several phrasings per task. One \
             held-out example per task:\n\n| task | user | assistant |\n| --- | --- | --- |\n",
        );
        for (task, prompt, answer) in self.examples() {
            let _ = writeln!(text, "| {} | {prompt} | {answer} |", task.name());
        }
        text + "\nConversations have one to four such turns. Some begin with a system message, and \
                some contain small talk (greetings, \"Who are you?\"), which is not scored. The \
                tasks divide, remainder, weekday, month and letter occur more often than the others.\n"
    }

    /// The initial weights, and what of them is frozen.
    fn start(&self) -> String {
        let Some(base) = self.base else {
            return "It starts from random weights.".into();
        };
        let chains = match self.recipe.frozen {
            0 => None,
            1 => Some("whose first chain is frozen".to_string()),
            frozen => Some(format!("whose first {frozen} chains are frozen")),
        };
        match (chains, self.recipe.frozen_backbone) {
            (None, false) => format!("It starts from `{base}`."),
            (Some(chains), false) => format!("It starts from `{base}`, {chains}."),
            (None, true) => {
                format!("It starts from `{base}`, whose backbone is frozen: the LM heads alone are trained.")
            }
            (Some(chains), true) => format!(
                "It starts from `{base}`, {chains}. The backbone of the others is frozen too: their \
                 LM heads alone are trained."
            ),
        }
    }

    fn training(&self) -> String {
        let (recipe, file) = (self.recipe, &self.config.file);
        let start = self.start();
        let loss = match &recipe.loss {
            Loss::Last => "cross-entropy of the full model".to_string(),
            Loss::Joint(weights) => {
                format!("sum over k of the cross-entropy of the model at k chains, weighted {weights:?}")
            }
        };
        format!(
            "## Training\n\n`cargo run --release --example train` trains such models on a CPU. \
             {start} The loss is the {loss}, on tokens of answers only. AdamW, {} steps of {} \
             conversations, seed {}; learning rate with a linear warm-up over {} steps to {}, then a \
             cosine decay to 0; weight decay {}, gradients clipped to norm {}; trained in f32, stored \
             in {}. Rounding differs between machines, so a new run may give slightly different weights.\n\n\
             {} layers, hidden size {}, intermediate size {}, {} query heads of {}, {} key/value \
             heads, byte-level BPE with single digits in a vocabulary of {}.\n",
            recipe.steps,
            recipe.batch_size,
            recipe.seed,
            recipe.warmup,
            recipe.learning_rate,
            recipe.weight_decay,
            recipe.max_gradient_norm,
            self.dtype,
            file.num_hidden_layers,
            file.hidden_size,
            file.intermediate_size,
            file.num_attention_heads,
            self.config.head_dim,
            self.config.kv_heads.total(),
            file.vocab_size,
        )
    }
}

/// The number of weights at `k` chains.
pub fn weights_at(config: &ColmConfig, k: usize) -> usize {
    let tensors = (0..k).flat_map(|chain| config.tensors_of(chain));
    tensors.map(|tensor| tensor.shape().iter().product::<usize>()).sum()
}

/// KV cache size of one token at `k` chains in bytes, over all layers, in f16.
pub fn kv_bytes_per_token(config: &ColmConfig, k: usize) -> usize {
    let (keys_and_values, bytes) = (2, 2);
    let heads = config.kv_heads.first(k);
    keys_and_values * bytes * config.file.num_hidden_layers * heads * config.head_dim
}
