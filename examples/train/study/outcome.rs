//! The result of a run.

use colm_checkpoint::ConfigFile;
use colm_train::evaluate::Evaluation;
use colm_train::recipe::Recipe;
use serde::{Deserialize, Serialize};

/// The result of a finished run.
#[derive(Serialize, Deserialize)]
pub struct Outcome {
    /// The training recipe.
    pub recipe: Recipe,
    /// The config of the trained model.
    pub config: ConfigFile,
    /// The number of training tokens, including padding.
    pub tokens: u64,
    /// The multiply-adds of training (`colm_train::cost`).
    pub multiply_adds: u64,
    /// The evaluation on held-out prompts of all tasks, including the new ones.
    pub evaluation: Evaluation,
}
