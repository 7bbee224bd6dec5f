//! AdamW (Loshchilov & Hutter, arXiv 1711.05101) with a gradient clip; its state can be saved.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPS: f64 = 1e-8;

/// One trained variable with its two moments.
struct Trained {
    name: String,
    variable: Var,
    mean: Tensor,
    square: Tensor,
}

/// AdamW over the trained blocks of a model. What is frozen is not among them: it neither moves nor
/// decays.
pub struct AdamW {
    trained: Vec<Trained>,
    /// Steps taken.
    steps: usize,
    weight_decay: f64,
    /// The largest allowed norm of all gradients together.
    clip: f64,
}

impl AdamW {
    /// Fresh moments for every variable, in the order of their names.
    pub fn new(
        variables: impl IntoIterator<Item = (String, Var)>,
        weight_decay: f64,
        clip: f64,
    ) -> Result<Self> {
        let trained = variables.into_iter().map(|(name, variable)| {
            let (mean, square) = (variable.zeros_like()?, variable.zeros_like()?);
            Ok(Trained { name, variable, mean, square })
        });
        let mut trained = trained.collect::<Result<Vec<_>>>()?;
        trained.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { trained, steps: 0, weight_decay, clip })
    }

    /// The variables, in the order in which [`step`](Self::step) takes their gradients.
    pub fn variables(&self) -> impl Iterator<Item = &Var> {
        self.trained.iter().map(|trained| &trained.variable)
    }

    /// Moves every variable against its gradient; returns the norm of all gradients before the
    /// clip. Matrices decay, vectors do not.
    pub fn step(&mut self, gradients: &[Tensor], rate: f64) -> Result<f64> {
        let mut square_norm = 0.;
        for gradient in gradients {
            square_norm += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let norm = square_norm.sqrt();
        let shrink = (self.clip / norm.max(1e-12)).min(1.);
        self.steps += 1;
        let unbias_mean = (1. - BETA1.powi(self.steps as i32)).recip();
        let unbias_square = (1. - BETA2.powi(self.steps as i32)).recip();
        for (trained, gradient) in self.trained.iter_mut().zip(gradients) {
            let gradient = (gradient.detach() * shrink)?;
            trained.mean = ((&trained.mean * BETA1)? + (&gradient * (1. - BETA1))?)?;
            trained.square = ((&trained.square * BETA2)? + (gradient.sqr()? * (1. - BETA2))?)?;
            let size = ((&trained.square * unbias_square)?.sqrt()? + EPS)?;
            let update = ((&trained.mean * (unbias_mean * rate))? / size)?;
            let decay = if trained.variable.rank() > 1 { rate * self.weight_decay } else { 0. };
            let kept = (trained.variable.as_detached_tensor() * (1. - decay))?;
            trained.variable.set(&(kept - update)?)?;
        }
        Ok(norm)
    }

    /// Variables and moments by name, to be saved.
    pub fn state(&self) -> HashMap<String, Tensor> {
        let mut state = HashMap::new();
        for trained in &self.trained {
            state.insert(trained.name.clone(), trained.variable.as_detached_tensor());
            state.insert(format!("{}.mean", trained.name), trained.mean.clone());
            state.insert(format!("{}.square", trained.name), trained.square.clone());
        }
        state
    }

    /// Goes on from a saved [`state`](Self::state) after `steps` steps.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>, steps: usize) -> Result<()> {
        let find = |name: String| {
            state.get(&name).cloned().with_context(|| format!("the saved state lacks {name}"))
        };
        for trained in &mut self.trained {
            trained.variable.set(&find(trained.name.clone())?)?;
            trained.mean = find(format!("{}.mean", trained.name))?;
            trained.square = find(format!("{}.square", trained.name))?;
        }
        self.steps = steps;
        Ok(())
    }
}
