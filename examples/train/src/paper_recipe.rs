//! The recipes of the paper (arXiv 2505.11820) by name.

use anyhow::{bail, ensure, Result};

use crate::recipe::Loss;

/// What is trained on which loss. `python/examples/train.py` has the same recipes under the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaperRecipe {
    /// Everything, on the loss at k = n alone.
    Pretrain,
    /// Everything, on the losses at all k.
    Joint,
    /// The LM heads alone, on the losses at all k; the backbone is frozen.
    ElasticHeads,
    /// The chains after the first, on the loss at k = n. For a model from `colm-convert expand`, whose new part of the
    /// LM head is zero.
    Expansion,
    /// The last chain, on the loss at k = n.
    ChainTuning,
}

impl PaperRecipe {
    /// All recipes.
    pub const ALL: [Self; 5] =
        [Self::Pretrain, Self::Joint, Self::ElasticHeads, Self::Expansion, Self::ChainTuning];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Joint => "joint",
            Self::ElasticHeads => "elastic-heads",
            Self::Expansion => "expansion",
            Self::ChainTuning => "chain-tuning",
        }
    }

    /// The recipe with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recipe| recipe.name() == name)
    }

    /// The loss for a model of `chains` chains. `weights` are those of the losses at k = 1, 2, .. n; by default they
    /// are equal.
    ///
    /// # Errors
    /// If the recipe's loss is that at k = n and there are weights.
    pub fn loss(self, chains: usize, weights: Option<Vec<f64>>) -> Result<Loss> {
        match (self, weights) {
            (Self::Joint | Self::ElasticHeads, weights) => {
                Ok(Loss::Joint(weights.unwrap_or_else(|| vec![1.; chains])))
            }
            (_, None) => Ok(Loss::Last),
            (_, Some(_)) => bail!(
                "loss weights with the recipe {}, whose loss is that at k = n; expected joint or \
                 elastic-heads",
                self.name()
            ),
        }
    }

    /// The number of frozen chains, counted from the first, in a model of `chains` chains.
    ///
    /// # Errors
    /// If the recipe freezes chains and the model has only one.
    pub fn frozen(self, chains: usize) -> Result<usize> {
        let frozen = match self {
            Self::Pretrain | Self::Joint | Self::ElasticHeads => return Ok(0),
            Self::Expansion => 1,
            Self::ChainTuning => chains.saturating_sub(1),
        };
        ensure!(
            chains > 1,
            "the recipe {} on a model of one chain; expected several (`colm-convert expand`)",
            self.name()
        );
        Ok(frozen)
    }

    /// Whether the backbone is frozen, so that the LM heads alone are trained.
    pub fn freezes_backbone(self) -> bool {
        self == Self::ElasticHeads
    }

    /// Whether something is frozen. Its weights are meant to be trained ones.
    pub fn freezes(self) -> bool {
        matches!(self, Self::ElasticHeads | Self::Expansion | Self::ChainTuning)
    }
}
