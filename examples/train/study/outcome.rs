//! What a run leaves behind.

use colm_checkpoint::ConfigFile;
use colm_train::evaluate::Evaluation;
use colm_train::recipe::Recipe;
use serde::{Deserialize, Serialize};

/// The result of a finished run.
#[derive(Serialize, Deserialize)]
pub struct Outcome {
    /// How it was trained.
    pub recipe: Recipe,
    /// What was trained.
    pub config: ConfigFile,
    /// Tokens that went through the model in training, padding included.
    pub tokens: u64,
    /// Multiply-adds of the training, as `colm_train::cost` counts them.
    pub multiply_adds: u64,
    /// Held-out prompts of all tasks, the new ones included.
    pub evaluation: Evaluation,
}
