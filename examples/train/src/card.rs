//! The model card: what the checkpoint is, how it was made, and how well it does.

use std::fmt::Write;

use colm_checkpoint::{Architecture, ColmConfig};

use crate::data::{Generator, Mix, Part, Task};
use crate::evaluate::Evaluation;
use crate::recipe::{Loss, Recipe};

/// What a card tells of.
pub struct Card<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The model's config.
    pub config: &'a ColmConfig,
    /// How it was trained.
    pub recipe: &'a Recipe,
    /// The checkpoint that the training started from, if not random weights.
    pub base: Option<&'a str>,
    /// How the stored weights do on held-out prompts: every figure of the card.
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
            "---\nlicense: apache-2.0\nlanguage: en\ntags: [{tags}]\n---\n# {}\n\n\
             A {architecture} (arXiv 2505.11820) with chains {:?}: one checkpoint of {:.1} million \
             weights that holds {} models. The model at k chains needs the first k weight files \
             only.\n\nIt answers short English questions whose answers can be checked. It is a \
             fixture and a demonstration; it knows nothing beyond the tasks below.\n",
            self.name,
            self.config.file.chains,
            weights as f64 / 1e6,
            self.config.chains.count(),
        )
    }

    /// What each k holds and caches.
    fn chains(&self) -> String {
        let owners = match self.config.architecture {
            Architecture::Colm => "Every chain has key/value heads of its own.",
            Architecture::ColmAir => "All chains share the key/value heads of the first.",
        };
        let mut text = format!(
            "## Chains\n\n{owners} Keys and values of one token in f16, all layers:\n\n\
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
        let asked: usize = self.evaluation.tasks.values().map(|score| score.asked).sum();
        let header: String = (1..=overall.len()).map(|k| format!(" k = {k} |")).collect();
        let rule = " ---: |".repeat(overall.len() + 1);
        let row = |shares: &[f64]| -> String {
            shares.iter().map(|share| format!(" {:.1} |", 100. * share)).collect()
        };
        let mut text = format!(
            "## Accuracy\n\nExact match in percent on {asked} held-out prompts, greedy decoding, \
             the stored (rounded) weights. No held-out prompt occurs in training: a hash of the \
             prompt decides on which side it stands.\n\n\
             | task | prompts |{header}\n| --- |{rule}\n"
        );
        for (task, score) in &self.evaluation.tasks {
            let shares = row(&score.accuracy());
            let _ = writeln!(text, "| {} | {} |{shares}", task.name(), score.asked);
        }
        let _ = writeln!(text, "| **mean of the tasks** | {asked} |{}", row(&overall));
        text
    }

    fn data(&self) -> String {
        let mut text = String::from(
            "## Data\n\nGenerated from a seed while training; several phrasings per task. One \
             held-out example of each:\n\n| task | user | assistant |\n| --- | --- | --- |\n",
        );
        let (seed, mix) = (self.recipe.seed, Mix::of(Task::SCORED));
        let mut generator = Generator::new(seed, u64::MAX - 2, Part::HeldOut, mix);
        for &task in &self.recipe.tasks {
            let dialogue = generator.dialogue(task);
            let (prompt, answer) = (dialogue.prompt, dialogue.answer);
            let _ = writeln!(text, "| {} | {prompt} | {answer} |", task.name());
        }
        text + "\nConversations have one to four such turns; some begin with a system message, \
                some contain small talk (greetings, \"Who are you?\"), which is not scored. The \
                tables (divide, remainder, weekday, month, letter) come more often than the rest.\n"
    }

    fn training(&self) -> String {
        let (recipe, file) = (self.recipe, &self.config.file);
        let start = match (self.base, recipe.frozen) {
            (None, _) => "Random weights at first.".to_string(),
            (Some(base), 0) => format!("It starts from `{base}`."),
            (Some(base), 1) => {
                format!("It starts from `{base}`, whose first chain stays as it is.")
            }
            (Some(base), frozen) => {
                format!("It starts from `{base}`, whose first {frozen} chains stay as they are.")
            }
        };
        let loss = match &recipe.loss {
            Loss::Last => "cross-entropy of the full model".to_string(),
            Loss::Joint(weights) => {
                format!("sum over k of the cross-entropy of the model at k chains, weighted {weights:?}")
            }
        };
        format!(
            "## Training\n\n`cargo run --release --example train` makes such models on a CPU. \
             {start} The loss is the {loss}, on the answers' tokens only. AdamW, {} steps of {} \
             conversations, seed {}; learning rate rising over {} steps to {}, then a cosine to 0; \
             weight decay {}, gradients clipped at norm {}; f32 in training, {} as stored. Another \
             machine may round sums differently: a new run need not give the same bits.\n\n\
             {} layers, hidden size {}, intermediate size {}, {} query heads of {}, {} key/value \
             heads, byte-level BPE with single digits in a vocabulary of {}.\n",
            recipe.steps,
            recipe.batch,
            recipe.seed,
            recipe.warmup,
            recipe.rate,
            recipe.weight_decay,
            recipe.clip,
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

/// The number of weights of the model at `k` chains.
pub fn weights_at(config: &ColmConfig, k: usize) -> usize {
    let tensors = (0..k).flat_map(|chain| config.tensors_of(chain));
    tensors.map(|tensor| tensor.shape().iter().product::<usize>()).sum()
}

/// Bytes of keys and values that one token leaves in all layers at `k` chains, in f16.
pub fn kv_bytes_per_token(config: &ColmConfig, k: usize) -> usize {
    let (keys_and_values, bytes) = (2, 2);
    let heads = config.kv_heads.first(k);
    keys_and_values * bytes * config.file.num_hidden_layers * heads * config.head_dim
}
