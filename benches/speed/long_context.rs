//! Models for prompts of thousands of tokens.

use std::path::Path;

use anyhow::Result;
use colm_checkpoint::Architecture;

use crate::checkpoint::write_colm;
use crate::shape::{Setting, Shape, Weights};

/// The longest context of the models: the long prompt and the answers fit.
pub const CONTEXT: usize = 16_384;

/// Writes a model of the shape `small`, with `layers` layers and random f32 weights.
pub fn write_model(
    folder: &Path,
    architecture: Architecture,
    chains: &[usize],
    layers: usize,
) -> Result<()> {
    let setting = Setting { shape: Shape::Small, weights: Weights::F32 };
    let mut config = setting.config(architecture, chains);
    config["num_hidden_layers"] = layers.into();
    config["max_position_embeddings"] = CONTEXT.into();
    write_colm(folder, &config, Weights::F32)
}
