//! AdamW (Loshchilov & Hutter, arXiv 1711.05101) with gradient clipping and a state that can be saved.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPS: f64 = 1e-8;

/// A trained variable and its moments.
struct TrainedVariable {
    name: String,
    variable: Var,
    /// The running mean of the gradient.
    first_moment: Tensor,
    /// The running mean of the squared gradient.
    second_moment: Tensor,
}

/// AdamW over the trained blocks of a model. Frozen blocks are not among them: they are neither updated nor decayed.
pub struct AdamW {
    trained: Vec<TrainedVariable>,
    /// Steps taken.
    steps: usize,
    weight_decay: f64,
    /// Gradients are scaled down to this global norm.
    max_gradient_norm: f64,
}

impl AdamW {
    /// Starts with zero moments; variables are ordered by name.
    pub fn new(
        variables: impl IntoIterator<Item = (String, Var)>,
        weight_decay: f64,
        max_gradient_norm: f64,
    ) -> Result<Self> {
        let trained = variables.into_iter().map(|(name, variable)| {
            let (first_moment, second_moment) = (variable.zeros_like()?, variable.zeros_like()?);
            Ok(TrainedVariable { name, variable, first_moment, second_moment })
        });
        let mut trained = trained.collect::<Result<Vec<_>>>()?;
        trained.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { trained, steps: 0, weight_decay, max_gradient_norm })
    }

    /// The variables, in the order in which [`step`](Self::step) takes their gradients.
    pub fn variables(&self) -> impl Iterator<Item = &Var> {
        self.trained.iter().map(|trained| &trained.variable)
    }

    /// Updates all variables; returns the global gradient norm before clipping. Weight decay applies to matrices only.
    pub fn step(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<f64> {
        let mut square_norm = 0.;
        for gradient in gradients {
            square_norm += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let norm = square_norm.sqrt();
        let scale = (self.max_gradient_norm / norm.max(1e-12)).min(1.);
        self.steps += 1;
        let first_correction = (1. - BETA1.powi(self.steps as i32)).recip();
        let second_correction = (1. - BETA2.powi(self.steps as i32)).recip();
        for (trained, gradient) in self.trained.iter_mut().zip(gradients) {
            let gradient = (gradient.detach() * scale)?;
            trained.first_moment =
                ((&trained.first_moment * BETA1)? + (&gradient * (1. - BETA1))?)?;
            trained.second_moment =
                ((&trained.second_moment * BETA2)? + (gradient.sqr()? * (1. - BETA2))?)?;
            let root = ((&trained.second_moment * second_correction)?.sqrt()? + EPS)?;
            let update = ((&trained.first_moment * (first_correction * learning_rate))? / root)?;
            let decay =
                if trained.variable.rank() > 1 { learning_rate * self.weight_decay } else { 0. };
            let kept = (trained.variable.as_detached_tensor() * (1. - decay))?;
            trained.variable.set(&(kept - update)?)?;
        }
        Ok(norm)
    }

    /// The variables and moments by name, for saving.
    pub fn state(&self) -> HashMap<String, Tensor> {
        let mut state = HashMap::new();
        for trained in &self.trained {
            state.insert(trained.name.clone(), trained.variable.as_detached_tensor());
            state.insert(format!("{}.first_moment", trained.name), trained.first_moment.clone());
            state.insert(format!("{}.second_moment", trained.name), trained.second_moment.clone());
        }
        state
    }

    /// Continues from a saved [`state`](Self::state) after `steps` steps.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>, steps: usize) -> Result<()> {
        let find = |name: String| {
            state.get(&name).cloned().with_context(|| format!("the saved state lacks {name}"))
        };
        for trained in &mut self.trained {
            trained.variable.set(&find(trained.name.clone())?)?;
            trained.first_moment = find(format!("{}.first_moment", trained.name))?;
            trained.second_moment = find(format!("{}.second_moment", trained.name))?;
        }
        self.steps = steps;
        Ok(())
    }
}
