//! The trained variables of a model, and the gradients of its loss.

use anyhow::{Context, Result};
use candle_core::{Tensor, Var};
use candle_nn::loss::cross_entropy;
use colm_checkpoint::ColmConfig;

use crate::batch::Batch;
use crate::chain_model::{Blocks, ChainModel};
use crate::recipe::Recipe;

/// Makes the blocks that `recipe` trains variables, and returns these with their names. The others stay as they are.
pub fn trained_variables(
    config: &ColmConfig,
    recipe: &Recipe,
    blocks: &mut Blocks,
) -> Result<Vec<(String, Var)>> {
    let mut variables = Vec::new();
    let tensors = config.tensors(config.all_chains());
    for name in tensors.filter(|tensor| recipe.trains(tensor)).map(|tensor| tensor.name()) {
        let block = blocks.get(&name).with_context(|| format!("no tensor {name}"))?;
        let variable = Var::from_tensor(block)?;
        blocks.insert(name.clone(), variable.as_tensor().clone());
        variables.push((name, variable));
    }
    Ok(variables)
}

/// The losses at 1 to n chains of a micro-batch, and the gradients of their sum with `weights`, in the order of the
/// variables. `share` is the micro-batch's share of the predicted tokens of the batch; both results are scaled by it,
/// so that their sums over the micro-batches are those of the batch.
pub fn gradients<'a>(
    model: &ChainModel,
    variables: impl Iterator<Item = &'a Var>,
    micro_batch: &Batch,
    weights: &[f64],
    share: f64,
) -> Result<(Vec<f64>, Vec<Tensor>)> {
    let logits = micro_batch.logits(model)?;
    let mut losses = Vec::new();
    let mut terms = Vec::new();
    for (logits, &weight) in logits.iter().zip(weights) {
        // A loss of weight 0 is reported but needs no gradient.
        let logits = if weight == 0. { logits.detach() } else { logits.clone() };
        let loss = (cross_entropy(&logits, micro_batch.targets())? * share)?;
        losses.push(f64::from(loss.to_scalar::<f32>()?));
        terms.push((loss * weight)?);
    }
    let mut found = Tensor::stack(&terms, 0)?.sum_all()?.backward()?;
    let gradients = variables.map(|variable| match found.remove(variable) {
        Some(gradient) => Ok(gradient.detach()),
        None => Ok(variable.zeros_like()?.detach()),
    });
    Ok((losses, gradients.collect::<Result<_>>()?))
}
