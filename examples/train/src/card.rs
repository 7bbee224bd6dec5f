//! The model card: what the checkpoint is, how it was made, and how well it does.

use std::fmt::Write;

use colm_checkpoint::ColmConfig;

use crate::data::{Generator, Part, Stage, Task};
use crate::evaluate::Evaluation;
use crate::parameters::stored_weights;
use crate::train::Recipe;

/// The README.md that is written beside the weights; every figure is from `evaluation`.
pub fn card(config: &ColmConfig, recipe: &Recipe, evaluation: &Evaluation) -> String {
    [introduction(config), accuracy(evaluation), data(recipe.seed), training(config, recipe)]
        .join("\n")
}

fn introduction(config: &ColmConfig) -> String {
    format!(
        "---\nlicense: apache-2.0\nlanguage: en\ntags: [colm, colm-air]\n---\n\
         # tiny-colm-air\n\n\
         A CoLM-Air (arXiv 2505.11820) with chains {:?}: one checkpoint of {:.1} million weights \
         that holds {} models. The model at k chains needs the first k weight files only.\n\n\
         It answers short English questions whose answers can be checked. It is a fixture and a \
         demonstration; it knows nothing beyond the tasks below.\n",
        config.file.chains,
        stored_weights(config) as f64 / 1e6,
        config.chains.count(),
    )
}

fn accuracy(evaluation: &Evaluation) -> String {
    let overall = evaluation.accuracy();
    let asked: usize = evaluation.tasks.values().map(|score| score.asked).sum();
    let header: String = (1..=overall.len()).map(|k| format!(" k = {k} |")).collect();
    let rule = " ---: |".repeat(overall.len() + 1);
    let row = |shares: &[f64]| -> String {
        shares.iter().map(|share| format!(" {:.1} |", 100. * share)).collect()
    };
    let mut text = format!(
        "## Accuracy\n\nExact match in percent on {asked} held-out prompts, greedy decoding, the \
         stored (rounded) weights. No held-out prompt occurs in training: a hash of the prompt \
         decides on which side it stands.\n\n| task | prompts |{header}\n| --- |{rule}\n"
    );
    for (task, score) in &evaluation.tasks {
        let shares = row(&score.accuracy());
        let _ = writeln!(text, "| {} | {} |{shares}", task.name(), score.asked);
    }
    let _ = writeln!(text, "| **mean of the tasks** | {asked} |{}", row(&overall));
    text
}

fn data(seed: u64) -> String {
    let mut text = String::from(
        "## Data\n\nGenerated from a seed while training; several phrasings per task. One held-out \
         example of each:\n\n| task | user | assistant |\n| --- | --- | --- |\n",
    );
    let mut generator = Generator::new(seed, u64::MAX - 2, Part::HeldOut, Stage::Tables);
    for &task in Task::SCORED {
        let dialogue = generator.dialogue(task);
        let _ = writeln!(text, "| {} | {} | {} |", task.name(), dialogue.prompt, dialogue.answer);
    }
    text + "\nConversations have one to four such turns; some begin with a system message, some \
            contain small talk (greetings, \"Who are you?\"), which is not scored.\n"
}

fn training(config: &ColmConfig, recipe: &Recipe) -> String {
    let file = &config.file;
    let points = |points: &[(usize, f64)]| -> String {
        let points = points.iter().map(|(step, height)| format!("{height} at step {step}"));
        points.collect::<Vec<_>>().join(", ")
    };
    format!(
        "## Training\n\n\
         `cargo run --release --example train` makes this model on a CPU. The loss is the weighted \
         sum, over k = 1 to {}, of the cross-entropy of the model at k chains, on the answers' \
         tokens only. AdamW, {} steps of {} conversations, seed {}; weight decay {}, gradients \
         clipped at norm {}; f32 in training, f16 as stored. Three stages: numbers more often; \
         from step {} lists and told facts more often; from step {} the tables (divide, \
         remainder, weekday, month, letter) make up half.\n\n\
         - learning rate, straight lines between: {}\n\
         - weight of the loss at k in proportion to k^p, with p: {}. So the last stages favour \
         large k: the small k stay working models, but would be better trained alone.\n\n\
         The bends of both lines and the stages were chosen while this model trained, by its \
         accuracy on some of the held-out prompts. Another machine may round sums differently: a \
         new run need not give the same bits.\n\n\
         {} layers, hidden size {}, intermediate size {}, {} query heads of {}, {} shared \
         key/value heads, byte-level BPE vocabulary of {} with single digits.\n",
        config.chains.count(),
        recipe.steps,
        recipe.batch,
        recipe.seed,
        recipe.weight_decay,
        recipe.clip,
        recipe.lists_from,
        recipe.tables_from,
        points(&recipe.rates),
        points(&recipe.focus),
        file.num_hidden_layers,
        file.hidden_size,
        file.intermediate_size,
        file.num_attention_heads,
        config.head_dim,
        config.kv_heads.total(),
        file.vocab_size,
    )
}
